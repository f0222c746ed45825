"""Faster R-CNN of Fine-grained Feature Imitation (Wang et al., CVPR 2019), on VGG11 or VGG16.

Its names are those of jwyang/faster-rcnn.pytorch, which it is built on. The images of both are BGR
of 0 to 255 less Caffe's means. The files say how regions are pooled and whether classes share
boxes; a student's also hold its adaptation layer, which is no part of the detector.
"""

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from limbeck.checkpoints.architecture import trunk_of
from limbeck.checkpoints.checkpoint import Checkpoint, Style, with_std
from limbeck.checkpoints.libraries import trunks
from limbeck.checkpoints.libraries.format import Format, unusual
from limbeck.checkpoints.libraries.rules import Rule, Table
from limbeck.checkpoints.reading.files import Contents
from limbeck.checkpoints.tensors import BGR, Tensors

log = logging.getLogger(__name__)

MEAN = (122.7717 / 255, 115.9465 / 255, 102.9801 / 255)
STD = (1 / 255,) * 3
_POOLINGS = ("align", "crop", "pool")
_WIDTH = 4096  # of a VGG's fully connected layers
_RATIOS = 3
_SIZES = {3: (128, 256, 512), 4: (64, 128, 256, 512)}  # of VOC, of COCO
# What the original's user has to say, where it is not this.
_USUAL: dict[str, Any] = {
    "anchor_sizes": ((128, 256, 512),),
    "aspect_ratios": (0.5, 1.0, 2.0),
    "min_size": 600,
    "max_size": math.inf,
    "score_threshold": 0.0,
    "nms_threshold": 0.3,
    "detections_per_image": 100,
}
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

    Args:
        tensors: The tensors of a whole detector, for BGR images.

    Returns:
        The tensors of limbeck's detector, without the adaptation layer of a student.

    Raises:
        ValueError: The file holds something else, too.
    """
    adapter = [name for name in tensors if name.startswith(_ADAPTER)]
    if adapter:
        log.info("Left out of the student's file: %s, its adaptation layer.", ", ".join(adapter))
    return _TABLE.to_ours(tensors)


def write(tensors: Tensors, arguments: Mapping[str, Any]) -> Tensors:
    """The inverse of :func:`read`.

    Args:
        tensors: The tensors of a whole detector, with torchvision's names and for the standard
            deviation 1/255.
        arguments: The arguments that the detector was built with.

    Returns:
        The tensors of the original's detector.

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


def arguments_of(tensors: Tensors, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of limbeck's constructor.

    Args:
        tensors: What :func:`read` gives.
        metadata: What the file holds beside the weights.

    Returns:
        The arguments that the file determines.

    Raises:
        ValueError: The tensors are no such detector's, or the file names another pooling.
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


class FineGrainedImitation(Format):
    """The files of Fine-grained Feature Imitation, and the VGG that its training begins with."""

    name = "fgfi"
    suffixes = (".pth",)
    kinds = ("FasterRCNNC4",)

    def recognises(self, names: Iterable[str]) -> bool:
        """Whether these are names of a detector of Fine-grained Feature Imitation."""
        return recognises(names)

    def read(self, source: str, contents: Contents, style: Style | None) -> Checkpoint:
        """A detector, or a VGG of Caffe's; both are of one style."""
        given = contents.tensors
        if not recognises(given):
            inputs = {"mean": MEAN, "std": STD}
            trunk = trunks.read(given, bgr=True)
            return Checkpoint(source, self.name, "trunk", trunk, inputs, contents=contents)
        tensors = read(given)
        arguments = arguments_of(tensors, contents.metadata)
        return Checkpoint(source, self.name, "FasterRCNNC4", tensors, arguments, contents=contents)

    def write(self, checkpoint: Checkpoint, *, coco_ids: bool) -> Tensors:
        """A detector, for images of 0 to 255."""
        return write(with_std(checkpoint, STD), checkpoint.arguments)

    def container(self, tensors: Tensors, checkpoint: Checkpoint, configuration: str) -> Any:
        """The weights with what the original expects beside: a training's place, how it is run."""
        return {
            "model": tensors,
            "session": 1,
            "epoch": 1,
            "pooling_mode": checkpoint.arguments["pooling"],
            "class_agnostic": checkpoint.arguments["class_agnostic"],
        }

    def told(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """What no file of the original's says: anchors, and how detections are chosen."""
        return unusual(checkpoint.arguments | checkpoint.test_arguments, _USUAL)
