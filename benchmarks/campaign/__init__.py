"""The campaign of docs/reliability.md: kills, damaged and hostile files, recipes, disks."""
