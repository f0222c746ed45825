"""RetinaNet, GFL and Faster R-CNN of mmdetection 2 and 3, on ResNet or MobileNetV2 and FPN.

Anchors are ordered as in torchvision; background is the box head's last class, and has no boxes.
Versions 1.x had background first, and a RetinaNet of such a version cannot be told by its names:
``meta`` in its file says the version.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from limbeck.checkpoints.architecture import kind_of
from limbeck.checkpoints.checkpoint import Checkpoint
from limbeck.checkpoints.libraries.configured import ConfiguredFormat
from limbeck.checkpoints.libraries.mmdetection_stated import stated_by_meta
from limbeck.checkpoints.libraries.mmdetection_written import mmdetection_config
from limbeck.checkpoints.libraries.rules import Rule, Table, numbers, prefixed
from limbeck.checkpoints.libraries.stated import MetaArchitecture, Stated
from limbeck.checkpoints.libraries.trunks import (
    Writable,
    mmdetection_mobilenet_v2,
    mmdetection_resnet,
)
from limbeck.checkpoints.reading.files import Contents
from limbeck.checkpoints.tensors import (
    BACKGROUND_BOXES,
    BACKGROUND_FIRST,
    BGR,
    SAME,
    Tensors,
    check_box_rows,
    with_counters,
)

_MARKS = ("neck.", "bbox_head.", "rpn_head.", "roi_head.")
_GFL = "bbox_head.gfl_reg.weight"
_BINS = "bbox_head.integral.project"  # a constant of GFL: the distances that bins stand for
_VERSION_1 = "bbox_head.fc_cls.weight"  # later versions have it inside roi_head
_ADVICE = (
    "Expected mmdetection's RetinaNet or Faster R-CNN on a ResNet or MobileNetV2 with FPN, without "
    "normalisation in pyramid and heads, and without further heads; or its GFL."
)


def recognises(names: Iterable[str]) -> bool:
    """Whether these are names of a detector of mmdetection."""
    return any(name.startswith(_MARKS) for name in names)


def read(tensors: Tensors, *, bgr: bool) -> Tensors:
    """To torchvision's names and order of classes; RetinaNet with K columns.

    Args:
        tensors: The tensors of a whole detector.
        bgr: Whether the detector was trained on BGR images, as those of the style "caffe" are.

    Returns:
        The tensors of limbeck's detector.

    Raises:
        ValueError: It holds something else, too, its shapes are not such a detector's, or it is a
            Faster R-CNN of version 1.x.
    """
    if _VERSION_1 in tensors:
        raise ValueError(
            f"{_VERSION_1} is a name of mmdetection 1.x, whose classes have another order. Convert "
            "the file with mmdetection's tools/model_converters/upgrade_model_version.py first."
        )
    laterals = numbers(tensors, "neck.lateral_convs.{i}.conv.weight")
    ours = _table(len(laterals), bgr, _GFL in tensors).to_ours(tensors)
    check_box_rows(ours, "mmdetection")
    return ours


def write(tensors: Tensors, *, bgr: bool) -> Tensors:
    """The inverse of :func:`read`, which ends at the same bits.

    Args:
        tensors: The tensors of a whole detector, with torchvision's names and RetinaNet's K
            columns.
        bgr: Whether the detector will be given BGR images.

    Returns:
        The tensors of mmdetection's detector.

    Raises:
        ValueError: mmdetection has no such detector.
    """
    laterals = numbers(tensors, "backbone.fpn.inner_blocks.{i}.0.weight")
    gfl = kind_of(tensors) == "GFL"
    theirs = with_counters(_table(len(laterals), bgr, gfl).to_theirs(tensors))
    if gfl:
        bins = len(theirs[_GFL]) // 4
        theirs[_BINS] = torch.linspace(0, bins - 1, bins)
    return theirs


def _table(laterals: int, bgr: bool, gfl: bool) -> Table:
    """Of a detector whose trunk gives so many levels to the pyramid, with a GFL's head or not."""
    first = BGR if bgr else SAME
    rules = [
        *prefixed(mmdetection_resnet(first), "backbone.", "backbone.body."),
        *prefixed(mmdetection_mobilenet_v2(first), "backbone.", "backbone.body."),
        Rule("neck.lateral_convs.{i}.conv", "backbone.fpn.inner_blocks.{i}.0"),
        Rule(f"neck.fpn_convs.{laterals}.conv", "backbone.fpn.extra_blocks.p6"),
        Rule(f"neck.fpn_convs.{laterals + 1}.conv", "backbone.fpn.extra_blocks.p7"),
        Rule("neck.fpn_convs.{i}.conv", "backbone.fpn.layer_blocks.{i}.0"),
        # RetinaNet and GFL
        Rule("bbox_head.cls_convs.{i}.conv", "head.classification_head.conv.{i}.0"),
        Rule("bbox_head.reg_convs.{i}.conv", "head.regression_head.conv.{i}.0"),
        *(_OF_GFL if gfl else _OF_RETINANET),
        # Faster R-CNN
        Rule("rpn_head.rpn_conv", "rpn.head.conv.0.0"),
        Rule("rpn_head.rpn_cls", "rpn.head.cls_logits"),
        Rule("rpn_head.rpn_reg", "rpn.head.bbox_pred"),
        Rule("roi_head.bbox_head.shared_fcs.{i-6}", "roi_heads.box_head.fc{i}"),
        Rule("roi_head.bbox_head.fc_cls", "roi_heads.box_predictor.cls_score", BACKGROUND_FIRST),
        Rule("roi_head.bbox_head.fc_reg", "roi_heads.box_predictor.bbox_pred", BACKGROUND_BOXES),
    ]
    return Table("mmdetection", rules, empty=(_BINS,) if gfl else (), advice=_ADVICE)


_OF_RETINANET = (
    Rule("bbox_head.retina_cls", "head.classification_head.cls_logits"),
    Rule("bbox_head.retina_reg", "head.regression_head.bbox_reg"),
)
_OF_GFL = (
    Rule("bbox_head.cls_convs.{i}.gn", "head.classification_head.conv.{i}.1"),
    Rule("bbox_head.reg_convs.{i}.gn", "head.regression_head.conv.{i}.1"),
    Rule("bbox_head.gfl_cls", "head.classification_head.cls_logits"),
    Rule("bbox_head.gfl_reg", "head.regression_head.bbox_reg"),
    Rule("bbox_head.scales.{i}", "head.regression_head.scales.{i}"),
)


class MMDetection(ConfiguredFormat):
    """mmdetection's checkpoints, which hold their configuration."""

    name = "mmdetection"
    kinds = (*ConfiguredFormat.kinds, "GFL")
    suffixes = (".pth",)
    trunks = ("mmdetection", "mmpretrain")
    configuration_suffix = ".py"
    stated_numerics = ("relu_before_p7", "roi_aligned")

    def recognises(self, names: Iterable[str]) -> bool:
        """Whether these are names of a detector of mmdetection."""
        return recognises(names)

    def stated(self, contents: Contents) -> Stated:
        """What the configuration under ``meta`` says."""
        meta = contents.metadata.get("meta")
        return stated_by_meta(meta) if isinstance(meta, Mapping) else Stated()

    def read_detector(self, tensors: Tensors, stated: Stated, *, bgr: bool) -> Tensors:
        """A detector; the order of its anchors is torchvision's."""
        return read(tensors, bgr=bgr)

    def write_detector(
        self, tensors: Tensors, arguments: Mapping[str, Any], *, bgr: bool
    ) -> Tensors:
        """A detector; the order of its anchors is torchvision's."""
        return write(tensors, bgr=bgr)

    def write_configuration(
        self,
        arch: MetaArchitecture,
        arguments: Mapping[str, Any],
        *,
        bgr: bool,
        classes: Iterable[str],
    ) -> str:
        """The text of mmdetection's configuration, Python."""
        return mmdetection_config(arch, arguments, bgr=bgr, classes=tuple(classes))

    def trunk_names(self, tensors: Tensors) -> Writable:
        """Mmpretrain's for what mmdetection has no names for: its library of backbones has."""
        whole = tensors.keys() & {"classifier.1.weight", "stage2.0.branch1.0.weight"}
        return "mmpretrain" if whole else "mmdetection"

    def container(self, tensors: Tensors, checkpoint: Checkpoint, configuration: str) -> Any:
        """The weights with their configuration and the names of the classes."""
        meta = {"cfg": configuration, "dataset_meta": {"classes": checkpoint.classes}}
        return {"meta": meta, "state_dict": tensors}
