"""Detectors, a room for each family: on a pyramid, on C4, SSD, on a grid; and their parts."""
