"""Faster R-CNN on one map of stride 16, without a feature pyramid."""
