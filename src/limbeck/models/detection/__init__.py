"""Detectors: torchvision's with light backbones, few levels and short heads, and two on a grid."""

from limbeck.models.detection.c4.faster_rcnn_c4 import FasterRCNNC4
from limbeck.models.detection.grid.shuffledet import ShuffleDet
from limbeck.models.detection.grid.yolov2 import YOLOv2
from limbeck.models.detection.pyramid.faster_rcnn import FasterRCNN
from limbeck.models.detection.pyramid.retinanet import RetinaNet
from limbeck.models.detection.ssd.ssd import SSD

__all__ = ["SSD", "FasterRCNN", "FasterRCNNC4", "RetinaNet", "ShuffleDet", "YOLOv2"]
