"""RetinaNet and Faster R-CNN of detectron2 (read at commit 02b5c4e), on ResNet and FPN.

Its anchors are ordered by size, then ratio; background is its box head's last class, and has no
boxes. Its pyramid's levels are numbered by their strides. Its normalisations do not count batches.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from limbeck.checkpoints.checkpoint import Checkpoint, Style
from limbeck.checkpoints.libraries.configured import ConfiguredFormat
from limbeck.checkpoints.libraries.detectron2_config import detectron2_config, stated_by_detectron2
from limbeck.checkpoints.libraries.rules import Rule, Table, numbers, prefixed
from limbeck.checkpoints.libraries.stated import MetaArchitecture, Stated
from limbeck.checkpoints.libraries.trunks import detectron2_resnet
from limbeck.checkpoints.reading.files import Contents
from limbeck.checkpoints.tensors import (
    BACKGROUND_BOXES,
    BACKGROUND_FIRST,
    BGR,
    SAME,
    Tensors,
    Transform,
    check_box_rows,
    size_major,
    without_counters,
)
from limbeck.texts import read_text

_EMPTY = (
    "pixel_mean",
    "pixel_std",
    "anchor_generator.cell_anchors.{i}",
    "proposal_generator.anchor_generator.cell_anchors.{i}",
)
_RATIOS = (0.5, 1.0, 2.0)
_MARKS = ("backbone.fpn_lateral", "head.cls_subnet.", "proposal_generator.rpn_head.")
_ADVICE = (
    "Expected detectron2's RetinaNet or Faster R-CNN on a ResNet with FPN, without normalisation "
    "in pyramid and heads, and without further heads."
)


def recognises(names: Iterable[str]) -> bool:
    """Whether these are names of a detector of detectron2."""
    return any(name.startswith(_MARKS) for name in names)


def read(tensors: Tensors, *, bgr: bool, ratios: int = 3) -> Tensors:
    """To torchvision's names and order of anchors and classes; RetinaNet with K columns.

    Args:
        tensors: The tensors of a whole detector.
        bgr: Whether the detector was trained on BGR images, Detectron2's default.
        ratios: The number of aspect ratios of a cell's anchors.

    Returns:
        The tensors of limbeck's detector.

    Raises:
        ValueError: It holds something else, too, or its shapes are not such a detector's.
    """
    deltas = "head.bbox_pred.weight", "proposal_generator.rpn_head.anchor_deltas.weight"
    levels = numbers(tensors, "backbone.fpn_lateral{level}.weight")
    anchors = _anchors(tensors, deltas, ratios)
    ours = _table(min(levels, default=0), anchors, bgr).to_ours(tensors)
    check_box_rows(ours, "detectron2")
    return ours


def write(tensors: Tensors, *, bgr: bool, ratios: int = 3) -> Tensors:
    """The inverse of :func:`read`, which ends at the same bits.

    Args:
        tensors: The tensors of a whole detector, with torchvision's names and RetinaNet's K
            columns.
        bgr: Whether the detector will be given BGR images.
        ratios: The number of aspect ratios of a cell's anchors.

    Returns:
        The tensors of Detectron2's detector.

    Raises:
        ValueError: Detectron2 has no such detector, as in MobileNetV2's case; or as :func:`read`.
    """
    if "backbone.body.18.0.weight" in tensors or "backbone.body.0.0.weight" in tensors:
        raise ValueError(
            "detectron2 has no MobileNetV2. Write the detector in mmdetection's or torchvision's "
            "names, or take one on a ResNet."
        )
    deltas = "head.regression_head.bbox_reg.weight", "rpn.head.bbox_pred.weight"
    stages = numbers(tensors, "backbone.body.layer{stage}.0.conv1.weight")
    laterals = numbers(tensors, "backbone.fpn.inner_blocks.{i}.0.weight")
    first = max(stages, default=0) + 2 - len(laterals)  # layer1 is C2
    theirs = _table(first, _anchors(tensors, deltas, ratios), bgr).to_theirs(tensors)
    return without_counters(theirs)


def _table(first: int, anchors: Transform, bgr: bool) -> Table:
    """Of a detector whose pyramid begins at level ``first``."""
    body = detectron2_resnet(BGR if bgr else SAME)
    pyramid = f"{{level-{first}}}.0"
    rules = [
        *prefixed(body, "backbone.bottom_up.", "backbone.body."),
        Rule("backbone.fpn_lateral{level}", f"backbone.fpn.inner_blocks.{pyramid}"),
        Rule("backbone.fpn_output{level}", f"backbone.fpn.layer_blocks.{pyramid}"),
        Rule("backbone.top_block.p6", "backbone.fpn.extra_blocks.p6"),
        Rule("backbone.top_block.p7", "backbone.fpn.extra_blocks.p7"),
        # RetinaNet
        Rule("head.cls_subnet.{2i}", "head.classification_head.conv.{i}.0"),
        Rule("head.bbox_subnet.{2i}", "head.regression_head.conv.{i}.0"),
        Rule("head.cls_score", "head.classification_head.cls_logits", anchors),
        Rule("head.bbox_pred", "head.regression_head.bbox_reg", anchors),
        # Faster R-CNN
        Rule("proposal_generator.rpn_head.conv", "rpn.head.conv.0.0"),
        Rule("proposal_generator.rpn_head.objectness_logits", "rpn.head.cls_logits", anchors),
        Rule("proposal_generator.rpn_head.anchor_deltas", "rpn.head.bbox_pred", anchors),
        Rule("roi_heads.box_head.fc{i-5}", "roi_heads.box_head.fc{i}"),
        _box("cls_score", BACKGROUND_FIRST),
        _box("bbox_pred", BACKGROUND_BOXES),
    ]
    return Table("detectron2", rules, _EMPTY, _ADVICE)


def _box(layer: str, transform: Transform) -> Rule:
    name = f"roi_heads.box_predictor.{layer}"
    return Rule(name, name, transform)


def _anchors(tensors: Tensors, deltas: Iterable[str], ratios: int) -> Transform:
    """The change of order, from how many anchors there are: four box rows for each."""
    rows = next((len(tensors[name]) for name in deltas if name in tensors), 4 * ratios)
    sizes, rest = divmod(rows, 4 * ratios)
    if rest:
        raise ValueError(
            f"{rows} box rows are not four for each anchor of {ratios} aspect ratios. Say how many "
            "aspect ratios this detector's anchors have."
        )
    return size_major(sizes, ratios)


class Detectron2(ConfiguredFormat):
    """Detectron2's checkpoints, with the configuration of the same folder."""

    name = "detectron2"
    suffixes = (".pkl", ".pth")
    trunks = ("caffe2", "detectron2")
    configuration_suffix = ".yaml"
    stated_numerics = ("roi_aligned",)

    def recognises(self, names: Iterable[str]) -> bool:
        """Whether these are names of a detector of Detectron2."""
        return recognises(names)

    def stated(self, contents: Contents) -> Stated:
        """What ``config.yaml`` or a ``.yaml`` of the file's own name says, beside the file."""
        path = contents.path
        for beside in (path.with_suffix(".yaml"), path.with_name("config.yaml")):
            if beside.is_file():
                text = read_text(beside)
                return _with_colours(stated_by_detectron2(text, str(beside)), contents.tensors)
        return _with_colours(Stated(), contents.tensors)

    def usual_style(self, *, bottlenecks: bool) -> Style:
        """Detectron2's ResNet-50 and 101 are MSRA's; smaller ones are torchvision's."""
        return "caffe" if bottlenecks else "pytorch"

    def read_detector(self, tensors: Tensors, stated: Stated, *, bgr: bool) -> Tensors:
        """A detector with as many aspect ratios as its configuration says, or three."""
        return read(tensors, bgr=bgr, ratios=len(stated.aspect_ratios or _RATIOS))

    def write_detector(
        self, tensors: Tensors, arguments: Mapping[str, Any], *, bgr: bool
    ) -> Tensors:
        """A detector with as many aspect ratios as its arguments say, or three."""
        return write(tensors, bgr=bgr, ratios=len(arguments.get("aspect_ratios", _RATIOS)))

    def write_configuration(
        self,
        arch: MetaArchitecture,
        arguments: Mapping[str, Any],
        *,
        bgr: bool,
        classes: Iterable[str],
    ) -> str:
        """The text of ``config.yaml``."""
        return detectron2_config(arch, arguments, bgr=bgr, classes=tuple(classes))

    def container(self, tensors: Tensors, checkpoint: Checkpoint, configuration: str) -> Any:
        """The weights as Detectron2's own ``.pth`` holds them, with who wrote them."""
        return {"model": tensors, "__author__": "limbeck"}


def _with_colours(stated: Stated, tensors: Tensors) -> Stated:
    """With the mean and standard deviation that Detectron2's files held until 2020."""
    if stated.std or not {"pixel_mean", "pixel_std"} <= tensors.keys():
        return stated
    held = tensors["pixel_mean"].flatten(), tensors["pixel_std"].flatten()
    bgr = bool(held[0][0] < held[0][-1])  # red is the brightest
    mean, std = ((values.flip(0) if bgr else values) / 255 for values in held)
    return replace(stated, mean=tuple(mean.tolist()), std=tuple(std.tolist()), bgr=bgr)
