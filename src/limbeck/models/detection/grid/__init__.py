"""Detectors on one map, each of whose cells predicts boxes for its own anchors."""
