"""What network a state dict is of, as far as its names and shapes say: torchvision's names."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from limbeck.checkpoints.tensors import Tensors
from limbeck.trunks import TRUNKS, VGGS, residual_blocks

Kind = Literal[
    "RetinaNet", "FCOS", "GFL", "FasterRCNN", "FasterRCNNC4", "SSD", "ShuffleDet", "YOLOv2", "trunk"
]

_FCOS = "head.regression_head.bbox_ctrness."
_GFL = "head.regression_head.scales."
_DISTRIBUTIONS = 4 * 17  # rows of a GFL's boxes: four sides of 17 bins
_REDUCED_TAIL = 480  # channels that MobileNetV3's last stage has in torchvision's SSDLite of COCO
_SSD = "head.regression_head.module_list."


@dataclass(frozen=True)
class Architecture:
    """A network, and the arguments of limbeck's constructor that its tensors determine.

    Attributes:
        kind: The name of limbeck's class. A ``trunk`` is a backbone without a neck, or a whole
            classifier.
        arguments: The arguments, such as ``backbone``, ``num_classes``, ``levels``.
        anchors: The number of anchors of each cell. 0: the network has none, or they are not told.
    """

    kind: Kind
    arguments: dict[str, Any] = field(default_factory=dict)
    anchors: int = 0


def kind_of(names: Iterable[str]) -> Kind:
    """The kind of network whose tensors have these names, torchvision's."""
    names = list(names)
    if any(name.startswith(_SSD) for name in names):
        return "SSD"
    parts = {name.partition(".")[0] for name in names}
    if "roi_heads" in parts:
        pyramid = any(name.startswith(("backbone.body.", "backbone.fpn.")) for name in names)
        return "FasterRCNN" if pyramid else "FasterRCNNC4"
    if not {"backbone", "head"} <= parts:
        return "trunk"
    if any(name.startswith(_GFL) for name in names):
        return "GFL"
    return "FCOS" if any(name.startswith(_FCOS) for name in names) else "RetinaNet"


def architecture(tensors: Tensors) -> Architecture:
    """The network that a state dict is of.

    Args:
        tensors: The state dict under torchvision's names, RetinaNet and FCOS with K columns of
            classes.

    Returns:
        The network.

    Raises:
        ValueError: It is no detector on a pyramid and no SSD, on a trunk of limbeck's, and no
            trunk.
    """
    kind = kind_of(tensors)
    if kind == "FasterRCNNC4":
        raise ValueError(
            "these weights are of a Faster R-CNN without a pyramid, whose names do not say how it "
            "is run. Build it by hand, or give the folder of a student."
        )
    try:
        if kind == "trunk":
            return Architecture(kind, {"backbone": trunk_of(tensors)})
        if kind == "SSD":
            return Architecture(kind, _ssd(tensors))
        if kind == "FCOS":
            return Architecture(kind, _fcos(tensors))
        if kind == "GFL":
            return Architecture(kind, _gfl(tensors), anchors=1)
        return _retinanet(tensors) if kind == "RetinaNet" else _faster_rcnn(tensors)
    except KeyError as error:
        raise ValueError(
            f"these weights are a {kind}'s, but {error} is missing. Expected one on a feature "
            "pyramid, as torchvision, detectron2 or mmdetection build it, or torchvision's SSD."
        ) from None
    except ODD_SHAPES as error:
        raise odd_shapes(kind, error) from None


# What comes of tensors whose shapes are not those of their names.
ODD_SHAPES = (LookupError, TypeError, ArithmeticError, RuntimeError)


def odd_shapes(kind: str, error: Exception) -> ValueError:
    """What to say of tensors whose shapes are not those of their names.

    Args:
        kind: What they are by their names.
        error: What came of them.

    Returns:
        The error to raise.
    """
    said = str(error).partition("\n")[0][:200]
    return ValueError(
        f"these weights are a {kind}'s by their names, but not by their shapes "
        f"({type(error).__name__}: {said}). The file is damaged, or of another network: download "
        "it again, or build the model by hand."
    )


def trunk_of(tensors: Tensors) -> str:
    """The name of the trunk among the tensors of a network, or of itself.

    Args:
        tensors: The tensors by torchvision's names, with or without ``backbone.`` or
            ``backbone.body.`` before the trunk's.

    Returns:
        torchvision's name of the trunk.

    Raises:
        ValueError: No trunk that limbeck's detectors know has these tensors.
    """
    prefixes = ("backbone.body.", "backbone.", "")
    prefix = next((p for p in prefixes if any(n.startswith(p) for n in tensors)), "")
    names = {n.removeprefix(prefix): v.shape for n, v in tensors.items() if n.startswith(prefix)}
    trunks = {**VGGS, **TRUNKS}
    for name, trunk in trunks.items():
        if trunk.recognises({n.removeprefix(trunk.layout.prefix): s for n, s in names.items()}):
            return name
    stages, bottlenecks = residual_blocks(names)
    found = f"names such as {', '.join(list(names)[:3])}"
    if any(stages):
        shape = "bottleneck" if bottlenecks else "basic"
        found = f"a residual network of {list(stages)} {shape} blocks"
    *first, last = {**TRUNKS, **VGGS}
    raise ValueError(
        f"no known trunk: found {found}, expected {', '.join(first)} or {last}. "
        "Build the model by hand and give it the file as weights."
    )


def _head_depth(tensors: Tensors) -> int:
    towers = r"head\.classification_head\.conv\.(\d+)\.0\.weight"
    return len({m[1] for name in tensors if (m := re.fullmatch(towers, name))})


def _gfl(tensors: Tensors) -> dict[str, Any]:
    rows = len(tensors["head.regression_head.bbox_reg.bias"])
    if rows != _DISTRIBUTIONS:
        raise ValueError(
            f"the head has {rows} rows of boxes, and limbeck's GFL {_DISTRIBUTIONS}: four sides of "
            "17 bins (reg_max 16). Give weights of such a detector."
        )
    return _pyramid(tensors) | {
        "num_classes": len(tensors["head.classification_head.cls_logits.bias"]),
        "head_depth": _head_depth(tensors),
    }


def _retinanet(tensors: Tensors) -> Architecture:
    pyramid = _pyramid(tensors)
    depth = _head_depth(tensors)
    anchors = _anchors(tensors["head.regression_head.bbox_reg.bias"])
    columns = len(tensors["head.classification_head.cls_logits.bias"]) // anchors
    arguments: dict[str, Any] = {"num_classes": columns, "head_depth": depth}
    p6 = tensors.get("backbone.fpn.extra_blocks.p6.weight")
    *_, c5 = _channels(pyramid["backbone"], tensors).values()
    p5 = pyramid["fpn_channels"]
    if p6 is not None and c5 != p5:  # otherwise its shape does not tell
        arguments |= {"p6_from": "P5" if p6.shape[1] == p5 else "C5"}
    return Architecture("RetinaNet", pyramid | arguments, anchors)


def _fcos(tensors: Tensors) -> dict[str, Any]:
    _anchors(tensors["head.regression_head.bbox_reg.bias"])
    tower = re.compile(r"head\.classification_head\.conv\.\d+\.weight")
    layers = [value for name, value in tensors.items() if tower.fullmatch(name)]
    return _pyramid(tensors) | {
        "num_classes": len(tensors["head.classification_head.cls_logits.bias"]),
        "head_depth": sum(layer.dim() == 4 for layer in layers),  # the others are normalisations
    }


def _anchors(offsets: Tensor) -> int:
    """The number of anchors of a cell, of which each has four offsets."""
    anchors, rest = divmod(offsets.numel(), 4)
    if not anchors or rest:
        raise ValueError(
            f"the head has {offsets.numel()} rows of boxes: expected four for each anchor."
        )
    return anchors


def _faster_rcnn(tensors: Tensors) -> Architecture:
    pyramid = _pyramid(tensors)
    first, last = pyramid["levels"]
    arguments = {
        "num_classes": len(tensors["roi_heads.box_predictor.cls_score.bias"]) - 1,
        "box_head_channels": len(tensors["roi_heads.box_head.fc6.bias"]),
        "levels": (first, last + 1),  # the pooled level has no tensors
    }
    return Architecture("FasterRCNN", pyramid | arguments, len(tensors["rpn.head.cls_logits.bias"]))


def _ssd(tensors: Tensors) -> dict[str, Any]:
    """Arguments of an SSD on one of torchvision's backbones, or on a light one."""
    scores, deltas = (
        f"head.{branch}_head.module_list.0" for branch in ("classification", "regression")
    )
    lite = f"{deltas}.0.0.weight" in tensors  # a depthwise convolution and its norm before it
    last = ".1.bias" if lite else ".bias"
    classes = 4 * len(tensors[scores + last]) // len(tensors[deltas + last]) - 1
    if "backbone.scale_weight" in tensors:
        return {"backbone": "vgg16", "num_classes": classes}
    if "backbone.features.0.0.0.weight" in tensors:
        reduced = tensors["backbone.extra.0.0.0.weight"].shape[1] == _REDUCED_TAIL
        return {
            "backbone": "mobilenet_v3_large",
            "num_classes": classes,
            "reduced_tail": reduced,
        }
    strided = re.compile(rf"backbone\.extra\.\d+\.{2 if lite else 1}\.0\.weight")
    extra = [len(value) for name, value in tensors.items() if strided.fullmatch(name)]
    head = re.compile(r"head\.regression_head\.module_list\.\d+(\.1)?\.bias")
    count = sum(head.fullmatch(name) is not None for name in tensors)
    trunk = trunk_of(tensors)
    top = max(_channels(trunk, tensors))
    arguments = {
        "backbone": trunk,
        "num_classes": classes,
        "levels": (top + len(extra) - count + 1, top + len(extra)),
        "lite": lite,
    }
    return arguments | ({"extra_channels": tuple(extra)} if extra else {})


def _pyramid(tensors: Tensors) -> dict[str, Any]:
    """Trunk, levels and channels of the feature pyramid."""
    trunk = trunk_of(tensors)
    laterals = [
        tensors[name].shape[1]
        for name in sorted(tensors)
        if re.fullmatch(r"backbone\.fpn\.inner_blocks\.\d\.0\.weight", name)
    ]
    channels = _channels(trunk, tensors)
    levels, widths = list(channels), list(channels.values())
    start = widths.index(laterals[0]) if laterals and laterals[0] in widths else None
    if start is None or laterals != widths[start : start + len(laterals)]:
        raise ValueError(
            f"the feature pyramid takes maps of {laterals} channels from a {trunk}, whose C2 to C5 "
            f"have {widths}. Expected successive ones of them."
        )
    first, last = levels[start], levels[start + len(laterals) - 1]
    extra = 2 if "backbone.fpn.extra_blocks.p7.weight" in tensors else 0
    width = len(tensors["backbone.fpn.layer_blocks.0.0.weight"])
    return {"backbone": trunk, "levels": (first, last + extra), "fpn_channels": width}


def _channels(trunk: str, tensors: Tensors) -> dict[int, int]:
    """The channels of the C-levels of a detector's trunk, by level, as far as there are stages."""
    channels = {}
    for stage in {**VGGS, **TRUNKS}[trunk].layout.stages:
        if any(name.startswith(f"backbone.body.{stage.modules[-1]}.") for name in tensors):
            output = tensors.get(f"backbone.body.{stage.output}.weight")
            channels[stage.level] = stage.channels if output is None else len(output)
    return channels
