"""RetinaNet and Faster R-CNN of detectron2 (read at commit 02b5c4e), on ResNet and FPN.

Its anchors are ordered by size, then ratio; background is its box head's last class, and has no
boxes. Its pyramid's levels are numbered by their strides. Its normalisations do not count batches.
"""

from collections.abc import Iterable

from limbeck.checkpoints.libraries.rules import Rule, Table, numbers, prefixed
from limbeck.checkpoints.libraries.trunks import detectron2_resnet
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

_EMPTY = (
    "pixel_mean",
    "pixel_std",
    "anchor_generator.cell_anchors.{i}",
    "proposal_generator.anchor_generator.cell_anchors.{i}",
)
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
        tensors: of a whole detector.
        bgr: it was trained on BGR images, detectron2's default.
        ratios: of the anchors of a cell.

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
        tensors: of a whole detector, with torchvision's names and RetinaNet's K columns.
        bgr: it will be given BGR images.
        ratios: of the anchors of a cell.

    Raises:
        ValueError: detectron2 has no such detector, in MobileNetV2's case; or as :func:`read`.
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
