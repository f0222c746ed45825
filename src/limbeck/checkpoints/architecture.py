"""What network a state dict is of, as far as its names and shapes say: torchvision's names."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from limbeck.checkpoints.tensors import Tensors

Kind = Literal[
    "RetinaNet", "FasterRCNN", "FasterRCNNC4", "SSD", "ShuffleDet", "YOLOv2", "trunk", "other"
]

_RESNETS: dict[tuple[str, tuple[int, ...]], str] = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
    ("bottleneck", (3, 8, 36, 3)): "resnet152",
}
_FCOS = "head.regression_head.bbox_ctrness."
_REDUCED_TAIL = 480  # channels that MobileNetV3's last stage has in torchvision's SSDLite of COCO
_SSD = "head.regression_head.module_list."
_VGGS = {  # places of the convolutions
    (0, 3, 6, 8, 11, 13, 16, 18): "vgg11",
    (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28): "vgg16",
}
_MOBILENET_V2 = (24, 32, 96, 1280)  # channels of C2 to C5, which are the last block of each stride


@dataclass(frozen=True)
class Architecture:
    """A network, and the arguments of limbeck's constructor that its tensors determine.

    Attributes:
        kind: of limbeck's class; a trunk is a backbone without neck, or a whole classifier, and
            others are detectors that are neither.
        arguments: such as ``backbone``, ``num_classes``, ``levels``.
        anchors: of each cell, of a detector.
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
    return "other" if any(name.startswith(_FCOS) for name in names) else "RetinaNet"


def architecture(tensors: Tensors) -> Architecture:
    """The network of a state dict under torchvision's names; RetinaNet with K columns.

    Raises:
        ValueError: It is no RetinaNet, Faster R-CNN or SSD on a trunk of limbeck's, or no trunk.
    """
    kind = kind_of(tensors)
    if kind == "other":
        raise ValueError(
            "these weights are another dense detector's, such as FCOS's. Expected RetinaNet's, "
            "Faster R-CNN's or SSD's."
        )
    if kind == "FasterRCNNC4":
        raise ValueError(
            "these weights are of a Faster R-CNN without a pyramid, whose names do not say how it "
            "is run. Build it by hand, or give the folder of a student."
        )
    if kind == "trunk":
        return Architecture(kind, {"backbone": trunk_of(tensors)})
    try:
        if kind == "SSD":
            return Architecture(kind, _ssd(tensors))
        return _retinanet(tensors) if kind == "RetinaNet" else _faster_rcnn(tensors)
    except KeyError as error:
        raise ValueError(
            f"these weights are a {kind}'s, but {error} is missing. Expected one on a feature "
            "pyramid, as torchvision, detectron2 or mmdetection build it, or torchvision's SSD."
        ) from None


def trunk_of(tensors: Tensors) -> str:
    """Torchvision's name of the trunk, for names with or without ``backbone.``, ``backbone.body.``.

    Raises:
        ValueError: No trunk that limbeck's detectors know has these tensors.
    """
    prefixes = ("backbone.body.", "backbone.", "")
    prefix = next(p for p in prefixes if any(n.startswith(p) for n in tensors))
    names = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
    convolutions = {m[1] for n in names if (m := re.fullmatch(r"(?:features\.)?(\d+)\.weight", n))}
    vgg = _VGGS.get(tuple(sorted(map(int, convolutions))))
    if vgg:
        return vgg
    blocks = {m[0] for n in names if (m := re.match(r"layer(\d+)\.(\d+)\.", n))}
    if blocks:
        stages = [sum(b.startswith(f"layer{k}.") for b in blocks) for k in range(1, 5)]
        shape = "bottleneck" if "layer1.0.conv3.weight" in names else "basic"
        there = tuple(filter(None, stages))  # a pyramid may do without the last ones
        for (kind, depths), name in _RESNETS.items():
            if kind == shape and depths[: len(there)] == there:
                return name
        found = f"a residual network of {stages} {shape} blocks"
    elif {"18.0.weight", "features.18.0.weight"} & names.keys():
        return "mobilenet_v2"
    else:
        found = f"names such as {', '.join(list(names)[:3])}"
    raise ValueError(
        f"no known trunk: found {found}, expected {', '.join(_RESNETS.values())}, "
        f"{', '.join(_VGGS.values())} or mobilenet_v2. "
        "Build the model by hand and give it the file as weights."
    )


def _retinanet(tensors: Tensors) -> Architecture:
    pyramid = _pyramid(tensors)
    towers = r"head\.classification_head\.conv\.(\d+)\.0\.weight"
    depth = len({m[1] for name in tensors if (m := re.fullmatch(towers, name))})
    anchors = len(tensors["head.regression_head.bbox_reg.bias"]) // 4
    columns = len(tensors["head.classification_head.cls_logits.bias"]) // anchors
    arguments: dict[str, Any] = {"num_classes": columns, "head_depth": depth}
    p6 = tensors.get("backbone.fpn.extra_blocks.p6.weight")
    c5, p5 = _c_channels(tensors)[-1], pyramid["fpn_channels"]
    if p6 is not None and c5 != p5:  # otherwise its shape does not tell
        arguments |= {"p6_from": "P5" if p6.shape[1] == p5 else "C5"}
    return Architecture("RetinaNet", pyramid | arguments, anchors)


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
    top = 1 + len(_c_channels(tensors))
    arguments = {
        "backbone": trunk_of(tensors),
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
    widths = _c_channels(tensors)
    first = 2 + widths.index(laterals[0]) if laterals and laterals[0] in widths else None
    if first is None or tuple(laterals) != widths[first - 2 : first - 2 + len(laterals)]:
        raise ValueError(
            f"the feature pyramid takes maps of {laterals} channels from a {trunk}, whose C2 to C5 "
            f"have {list(widths)}. Expected successive ones of them."
        )
    last = first + len(laterals) - 1
    extra = 2 if "backbone.fpn.extra_blocks.p7.weight" in tensors else 0
    channels = len(tensors["backbone.fpn.layer_blocks.0.0.weight"])
    return {"backbone": trunk, "levels": (first, last + extra), "fpn_channels": channels}


def _c_channels(tensors: Tensors) -> tuple[int, ...]:
    """Channels of the trunk's C2 to C5, or of those that there are."""
    if "backbone.body.18.0.weight" in tensors:
        return _MOBILENET_V2
    last = 3 if "backbone.body.layer1.0.conv3.weight" in tensors else 2
    names = (f"backbone.body.layer{k}.0.conv{last}.weight" for k in range(1, 5))
    return tuple(len(tensors[name]) for name in names if name in tensors)
