"""Datasets in the layouts in which they are published, and what happens to their images."""

from limbeck.data.augmentation import Augmentation
from limbeck.data.base import VisionDataset
from limbeck.data.coco import COCO
from limbeck.data.concatenated import Concatenated
from limbeck.data.imagefolder import ImageFolder
from limbeck.data.images import Images
from limbeck.data.kitti import KITTI
from limbeck.data.shapes import Shapes
from limbeck.data.split import Split
from limbeck.data.transforms import (
    ClassificationAugmentation,
    DetectionAugmentation,
    ShuffleDetAugmentation,
)
from limbeck.data.voc import VOC
from limbeck.data.widerface import WIDERFace
from limbeck.data.yolo import YOLO

__all__ = [
    "COCO",
    "KITTI",
    "VOC",
    "YOLO",
    "Augmentation",
    "ClassificationAugmentation",
    "Concatenated",
    "DetectionAugmentation",
    "ImageFolder",
    "Images",
    "Shapes",
    "ShuffleDetAugmentation",
    "Split",
    "VisionDataset",
    "WIDERFace",
]
