"""Detectors on a feature pyramid: RetinaNet and Faster R-CNN."""
