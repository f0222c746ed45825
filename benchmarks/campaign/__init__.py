"""The campaign of docs/reliability.md: kills, cuts, hostile files, bad recipes, full disks, cases."""
