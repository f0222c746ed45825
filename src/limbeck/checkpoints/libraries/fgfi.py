"""Faster R-CNN of Fine-grained Feature Imitation (Wang et al., CVPR 2019), on VGG11 or VGG16.

Its names are those of jwyang/faster-rcnn.pytorch, which it is built on. The images of both are BGR
of 0 to 255 less Caffe's means. The files say how regions are pooled and whether classes share
boxes; a student's also hold its adaptation layer, which is no part of the detector.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from limbeck.checkpoints.architecture import trunk_of
from limbeck.checkpoints.libraries.rules import Rule, Table
from limbeck.checkpoints.tensors import BGR, Tensors

log = logging.getLogger(__name__)

MEAN = (122.7717 / 255, 115.9465 / 255, 102.9801 / 255)
STD = (1 / 255,) * 3
_POOLINGS = ("align", "crop", "pool")
_WIDTH = 4096  # of a VGG's fully connected layers
_RATIOS = 3
_SIZES = {3: (128, 256, 512), 4: (64, 128, 256, 512)}  # of VOC, of COCO
_MARK = "RCNN_base."
_ADAPTER = "stu_feature_adap."
_TABLE = Table(
    "fgfi",
    [
        Rule("RCNN_base.0", "backbone.0", BGR),
        Rule("RCNN_base.{i}", "backbone.{i}"),
        Rule("RCNN_rpn.RPN_Conv", "rpn.head.conv.0.0"),
        Rule("RCNN_rpn.RPN_cls_score", "rpn.head.cls_logits"),
        Rule("RCNN_rpn.RPN_bbox_pred", "rpn.head.bbox_pred"),
        Rule("RCNN_top.0", "roi_heads.box_head.fc6"),
        Rule("RCNN_top.3", "roi_heads.box_head.fc7"),
        Rule("RCNN_cls_score", "roi_heads.box_predictor.cls_score"),
        Rule("RCNN_bbox_pred", "roi_heads.box_predictor.bbox_pred"),
    ],
    [f"{_ADAPTER}0.weight", f"{_ADAPTER}0.bias"],
    "Expected Faster R-CNN on VGG11 or VGG16, as Fine-grained Feature Imitation keeps it.",
)


def recognises(names: Iterable[str]) -> bool:
    """Whether these are names of a detector of Fine-grained Feature Imitation."""
    return any(name.startswith(_MARK) for name in names)


def read(tensors: Tensors) -> Tensors:
    """To torchvision's names, for RGB images.

    Raises:
        ValueError: It holds something else, too.
    """
    adapter = [name for name in tensors if name.startswith(_ADAPTER)]
    if adapter:
        log.info("Left out of the student's file: %s, its adaptation layer.", ", ".join(adapter))
    return _TABLE.to_ours(tensors)


def write(tensors: Tensors, arguments: Mapping[str, Any]) -> Tensors:
    """The inverse of :func:`read`.

    Args:
        tensors: of a whole detector, with torchvision's names and for the standard deviation 1/255.
        arguments: that it was built with.

    Raises:
        ValueError: The original has no such detector.
    """
    if arguments["preset"] != "fgfi" or not np.allclose(arguments["mean"], MEAN, atol=1e-6):
        raise ValueError(
            f"preset={arguments['preset']!r} and mean={arguments['mean']}: the original has other "
            f"numerics, and subtracts {MEAN}. Build and train the model with preset='fgfi' and "
            "that mean."
        )
    return _TABLE.to_theirs(tensors)


def beside(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What the original expects beside the weights: a training's place, and how they are run."""
    return {
        "session": 1,
        "epoch": 1,
        "pooling_mode": arguments["pooling"],
        "class_agnostic": arguments["class_agnostic"],
    }


def arguments_of(tensors: Tensors, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of limbeck's constructor.

    Args:
        tensors: what :func:`read` gives.
        metadata: beside the weights in the file.

    Raises:
        ValueError: They are no such detector's, or say another way of pooling.
    """
    pooling = metadata.get("pooling_mode", "align")
    if pooling not in _POOLINGS:
        raise ValueError(f"pooling_mode={pooling!r}: expected one of {', '.join(_POOLINGS)}.")
    try:
        classes = len(tensors["roi_heads.box_predictor.cls_score.bias"]) - 1
        boxes = len(tensors["roi_heads.box_predictor.bbox_pred.bias"])
        width = len(tensors["roi_heads.box_head.fc6.bias"])
        anchors = len(tensors["rpn.head.bbox_pred.bias"]) // 4
    except KeyError as error:
        raise ValueError(
            f"{error} is missing, in torchvision's names. Give a whole file."
        ) from None
    stated = {
        "backbone": trunk_of(tensors),
        "num_classes": classes,
        "preset": "fgfi",
        "pooling": pooling,
        "class_agnostic": boxes == 4,
        "mean": MEAN,
        "std": STD,
    }
    sizes = _SIZES.get(anchors // _RATIOS)
    return (
        stated
        | ({"anchor_sizes": (sizes,)} if sizes else {})
        | ({"box_head_channels": width} if width != _WIDTH else {})
    )
