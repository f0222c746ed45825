"""Detectors: torchvision's own, with light backbones, few levels and short heads."""

from limbeck.models.detection.faster_rcnn import FasterRCNN
from limbeck.models.detection.retinanet import RetinaNet

__all__ = ["FasterRCNN", "RetinaNet"]
