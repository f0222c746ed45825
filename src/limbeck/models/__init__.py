"""Students and teachers over torchvision and timm, their weights, and the kept student."""

from limbeck.models.build import Build
from limbeck.models.classifier import Classifier
from limbeck.models.detection.c4.faster_rcnn_c4 import FasterRCNNC4
from limbeck.models.detection.detr.hugging_face import HuggingFaceDetector
from limbeck.models.detection.grid.shuffledet import ShuffleDet
from limbeck.models.detection.grid.yolov2 import YOLOv2
from limbeck.models.detection.libreyolo.libre_yolo import LibreYOLODetector
from limbeck.models.detection.pyramid.faster_rcnn import FasterRCNN
from limbeck.models.detection.pyramid.fcos import FCOS
from limbeck.models.detection.pyramid.gfl import GFL
from limbeck.models.detection.pyramid.retinanet import RetinaNet
from limbeck.models.detection.ssd.ssd import SSD
from limbeck.models.feature_teacher import FeatureTeacher
from limbeck.models.loading import load_student
from limbeck.models.resnet import BasicBlockResNet, BasicBlocks
from limbeck.models.saving import save_student
from limbeck.models.weights import load_weights

__all__ = [
    "FCOS",
    "GFL",
    "SSD",
    "BasicBlockResNet",
    "BasicBlocks",
    "Build",
    "Classifier",
    "FasterRCNN",
    "FasterRCNNC4",
    "FeatureTeacher",
    "HuggingFaceDetector",
    "LibreYOLODetector",
    "RetinaNet",
    "ShuffleDet",
    "YOLOv2",
    "load_student",
    "load_weights",
    "save_student",
]
