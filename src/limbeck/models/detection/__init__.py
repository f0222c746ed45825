"""Detectors: torchvision's own, with light backbones, few levels and short heads."""

from limbeck.models.detection.faster_rcnn import FasterRCNN
from limbeck.models.detection.faster_rcnn_c4 import FasterRCNNC4
from limbeck.models.detection.retinanet import RetinaNet
from limbeck.models.detection.shuffledet import ShuffleDet
from limbeck.models.detection.ssd import SSD
from limbeck.models.detection.yolov2 import YOLOv2

__all__ = ["SSD", "FasterRCNN", "FasterRCNNC4", "RetinaNet", "ShuffleDet", "YOLOv2"]
