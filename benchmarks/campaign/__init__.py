"""The campaign of docs/results/reliability.md: kills, damaged and hostile files, recipes, disks."""
