"""Configurations of Detectron2 and mmdetection, and detectors that some are written for."""

from typing import Any

import pytest
from timm.data import IMAGENET_DEFAULT_MEAN

from limbeck.checkpoints.libraries.stated import Stated

OCTAVES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
RETINANET_SIZES = tuple(tuple(4 * 2**level * o for o in OCTAVES) for level in range(3, 8))
ONE = (1 / 255,) * 3

# What Detectron2 keeps of its defaults and Base-RetinaNet.yaml in an output folder's config.yaml,
# cut to what is read; one tuple as older versions wrote it.
DETECTRON2 = """
INPUT:
  FORMAT: BGR
  MAX_SIZE_TEST: 1333
  MIN_SIZE_TEST: 800
  MIN_SIZE_TRAIN: !!python/tuple
  - 640
  - 800
MODEL:
  ANCHOR_GENERATOR:
    ASPECT_RATIOS:
    - - 0.5
      - 1.0
      - 2.0
    NAME: DefaultAnchorGenerator
    SIZES:
    - [32, 40.31747359663594, 50.79683366298238]
    - [64, 80.63494719327188, 101.59366732596476]
  BACKBONE:
    FREEZE_AT: 2
    NAME: build_retinanet_resnet_fpn_backbone
  META_ARCHITECTURE: RetinaNet
  PIXEL_MEAN: !!python/tuple [103.53, 116.28, 123.675]
  PIXEL_STD: [1.0, 1.0, 1.0]
  RESNETS:
    DEPTH: 50
    STRIDE_IN_1X1: true
  RETINANET:
    IN_FEATURES: [p3, p4]
    NMS_THRESH_TEST: 0.5
    NUM_CLASSES: 80
    SCORE_THRESH_TEST: 0.05
  ROI_HEADS:
    NUM_CLASSES: 7
    SCORE_THRESH_TEST: 0.7
  RPN:
    IN_FEATURES: [p2, p3, p4, p5, p6]
TEST:
  DETECTIONS_PER_IMAGE: 100
VERSION: 2
"""

# mmdetection 3, as its Config.pretty_text writes it.
MMDETECTION_3 = """
default_scope = 'mmdet'
model = dict(
    backbone=dict(
        depth=50, frozen_stages=1, norm_cfg=dict(requires_grad=True, type='BN'), style='caffe',
        type='ResNet'),
    bbox_head=dict(
        anchor_generator=dict(
            octave_base_scale=4, ratios=[0.5, 1.0, 2.0], scales_per_octave=3,
            strides=[8, 16, 32, 64, 128], type='AnchorGenerator'),
        num_classes=20,
        type='RetinaHead'),
    data_preprocessor=dict(
        bgr_to_rgb=False, mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0],
        type='DetDataPreprocessor'),
    neck=dict(add_extra_convs='on_output', num_outs=5, type='FPN'),
    test_cfg=dict(
        max_per_img=100, nms=dict(iou_threshold=0.6, type='nms'), score_thr=0.1),
    type='mmdet.RetinaNet')
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(keep_ratio=True, scale=(1000, 600), type='Resize'),
]
"""

# mmdetection 2.
MMDETECTION_2 = """
model = dict(
    type='FasterRCNN',
    pretrained=None,
    backbone=dict(type='ResNet', depth=101, frozen_stages=-1),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5),
    rpn_head=dict(
        type='RPNHead',
        anchor_generator=dict(
            type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0], strides=[4, 8, 16, 32, 64])),
    roi_head=dict(type='StandardRoIHead', bbox_head=dict(type='Shared2FCBBoxHead', num_classes=3)),
    train_cfg=None)
test_cfg = dict(
    rpn=dict(nms_pre=1000),
    rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_thr=0.5), max_per_img=50))
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
data = dict(
    samples_per_gpu=2,
    test=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                type='MultiScaleFlipAug',
                img_scale=(1333, 800),
                transforms=[
                    dict(type='Resize', keep_ratio=True),
                    dict(type='Normalize', **img_norm_cfg),
                ])
        ]))
"""


def assert_octaves(sizes: Any, levels: int = 5) -> None:
    """RetinaNet's three sizes at each of the first levels."""
    assert len(sizes) == levels
    for of_level, expected in zip(sizes, RETINANET_SIZES, strict=False):
        assert of_level == pytest.approx(expected, rel=1e-12)


RETINANET = {
    "backbone": "resnet50",
    "num_classes": 3,
    "preset": "detectron2",
    "weights": None,
    "frozen_stages": 2,
    "stride_in_1x1": True,
    "min_size": 600,
    "max_size": 1000,
    "mean": None,
    "std": ONE,
    "score_threshold": 0.1,
    "nms_threshold": 0.6,
    "detections_per_image": 70,
}
FASTER_RCNN = {"backbone": "torchvision:resnet101", "num_classes": 5, "preset": "mmdetection"}


def expected(found: Stated, **changed: Any) -> Stated:
    """What was written for ``RETINANET``."""
    values: dict[str, Any] = {
        "meta_arch": "retinanet",
        "stride_in_1x1": True,
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": ONE,
        "num_classes": 3,
        "anchor_sizes": found.anchor_sizes,
        "aspect_ratios": (0.5, 1.0, 2.0),
        "p6_from": "C5",
        "relu_before_p7": True,
        "min_size": 600,
        "max_size": 1000,
        "score_threshold": 0.1,
        "nms_threshold": 0.6,
        "detections_per_image": 70,
        "frozen_stages": 2,
    }
    return Stated(**(values | changed))
