"""torchvision's detectors: our names, but not always our class columns.

Its RetinaNet and FCOS have a column 0 that no label uses; what is read, as of the other libraries,
has one column for each class. Its models of COCO have 91 classes, the identifiers of the dataset,
of which 80 occur. The names are those of torchvision 0.13 and later; older ones are brought up to
date.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_Weights,
    RetinaNet_ResNet50_FPN_Weights,
)

from limbeck.checkpoints.architecture import architecture, kind_of
from limbeck.checkpoints.checkpoint import Checkpoint, Style, with_std
from limbeck.checkpoints.libraries.format import Format, unusual
from limbeck.checkpoints.libraries.rules import renamed
from limbeck.checkpoints.reading.files import Contents
from limbeck.checkpoints.tensors import COCO_IDS, SAME, Tensors, Transform, slots
from limbeck.presets import PRESETS, retinanet_sizes, rpn_sizes

NAME = "torchvision"
# torchvision runs these with eps 0 in every normalisation, which no state dict says.
WITHOUT_EPS = (FasterRCNN_ResNet50_FPN_Weights.COCO_V1, RetinaNet_ResNet50_FPN_Weights.COCO_V1)
_COCO_SLOTS = 91
_OLDER = {  # until torchvision 0.12, see the _load_from_state_dict of these modules
    "backbone.fpn.inner_blocks.{i}": "backbone.fpn.inner_blocks.{i}.0",
    "backbone.fpn.layer_blocks.{i}": "backbone.fpn.layer_blocks.{i}.0",
    "head.classification_head.conv.{2i}": "head.classification_head.conv.{i}.0",
    "head.regression_head.conv.{2i}": "head.regression_head.conv.{i}.0",
    "rpn.head.conv": "rpn.head.conv.0.0",
}
_PREFIXES = ("backbone.body.", "head.classification_head.module_list.")  # the latter of an SSD
_LOGITS = "head.classification_head.cls_logits"
_DELTAS = "head.regression_head.bbox_reg.weight"
_SSD_SCORES = re.compile(r"head\.classification_head\.module_list\.\d+(\.1)?\.bias")
_SCORES = "roi_heads.box_predictor.cls_score"
_BOXES = "roi_heads.box_predictor.bbox_pred"


def recognises(names: Iterable[str]) -> bool:
    """Whether these are names of a detector of torchvision, limbeck's own included."""
    return any(name.startswith(_PREFIXES) for name in names)


def up_to_date(tensors: Tensors) -> Tensors:
    """The same tensors under the names of torchvision 0.13 and later."""
    older = _OLDER
    if kind_of(tensors) == "FCOS":  # its towers have numbers of their own, as they always had
        older = {old: new for old, new in older.items() if not old.startswith("head.")}
    return {_current(name, older): value for name, value in tensors.items()}


def read(tensors: Tensors, *, coco_ids: bool = False) -> Tensors:
    """To the current names, and RetinaNet and FCOS with K columns.

    Args:
        tensors: The tensors of a whole detector of torchvision, or of limbeck's with torchvision's
            preset.
        coco_ids: Whether the 80 classes that occur of COCO's 91 are kept alone.

    Returns:
        The tensors of limbeck's detector.

    Raises:
        ValueError: There are no such columns.
    """
    current = up_to_date(tensors)
    changes = _changes(current, coco_ids, stock=True)
    return {k: changes.get(k.rpartition(".")[0], SAME).to_ours(v) for k, v in current.items()}


def write(tensors: Tensors, *, coco_ids: bool = False) -> Tensors:
    """The inverse of :func:`read`; columns that are never used get a score of 0.

    Args:
        tensors: The tensors of a whole detector, RetinaNet with K columns.
        coco_ids: Whether the 80 classes are COCO's, and get their places among 91.

    Returns:
        The tensors of torchvision's detector.

    Raises:
        ValueError: There are not 80 classes.
    """
    kept = {name: value for name, value in tensors.items() if name != "loss_normaliser"}
    changes = _changes(kept, coco_ids, stock=False)
    return {k: changes.get(k.rpartition(".")[0], SAME).to_theirs(v) for k, v in kept.items()}


def _current(name: str, older: Mapping[str, str]) -> str:
    layer, _, leaf = name.rpartition(".")
    found = (renamed(layer, old, new) for old, new in older.items())
    return f"{next(filter(None, found), layer)}.{leaf}"


def _changes(tensors: Tensors, coco_ids: bool, *, stock: bool) -> dict[str, Transform]:
    """What is done to which layers; ``stock`` tensors are torchvision's, others are ours."""
    logits, scores = tensors.get(f"{_LOGITS}.weight"), tensors.get(f"{_SCORES}.weight")
    if logits is not None:
        if _DELTAS not in tensors:
            raise ValueError(f"{_LOGITS}.weight has no {_DELTAS} beside it. Give the whole file.")
        anchors = len(tensors[_DELTAS]) // 4
        columns = len(logits) // anchors
        if coco_ids:
            _check_coco(columns, _COCO_SLOTS if stock else len(COCO_IDS))
            return {_LOGITS: slots(anchors, _COCO_SLOTS, COCO_IDS)}
        count = columns if stock else columns + 1
        return {_LOGITS: slots(anchors, count, range(1, count))}
    if scores is not None and coco_ids:
        _check_coco(len(scores), _COCO_SLOTS if stock else len(COCO_IDS) + 1)
        used = (0, *COCO_IDS)  # 0 is the background, which both have
        count = _COCO_SLOTS
        return {_SCORES: slots(1, count, used), _BOXES: slots(1, count, used, bias=0.0)}
    return _ssd_changes(tensors, stock=stock) if coco_ids else {}


def _ssd_changes(tensors: Tensors, *, stock: bool) -> dict[str, Transform]:
    """Of the layers that score the anchors of each level; background is class 0 of both sides."""
    changes = {}
    for name in filter(_SSD_SCORES.fullmatch, tensors):
        anchors = len(tensors[name.replace("classification", "regression")]) // 4
        _check_coco(len(tensors[name]) // anchors, _COCO_SLOTS if stock else len(COCO_IDS) + 1)
        changes[name.removesuffix(".bias")] = slots(anchors, _COCO_SLOTS, (0, *COCO_IDS))
    return changes


def _check_coco(found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(
            f"the detector has {found} columns of classes, and one of COCO has {expected}. Leave "
            "out coco_ids."
        )


# -- the format ------------------------------------------------------------------------------------

# What torchvision's user has to say of a detector, where it is not this.
_USUAL: dict[str, Any] = {
    "mean": IMAGENET_DEFAULT_MEAN,
    "stride_in_1x1": False,
    "aspect_ratios": (0.5, 1.0, 2.0),
    "min_size": 800,
    "max_size": 1333,
    "score_threshold": 0.05,
    "nms_threshold": 0.5,
}
_OF_FCOS = {"score_threshold": 0.2, "nms_threshold": 0.6, "detections_per_image": 100}
# What torchvision's user has to say of an SSD in any case.
_OF_SSD = (
    "image_size",
    "scales",
    "aspect_ratios",
    "steps",
    "mean",
    "std",
    "score_threshold",
    "nms_threshold",
    "detections_per_image",
    "topk_candidates",
)


class Torchvision(Format):
    """torchvision's state dicts, whose names are limbeck's own."""

    name = NAME
    suffixes = (".pth", ".pt", ".safetensors")
    kinds = ("RetinaNet", "FCOS", "FasterRCNN", "SSD", "trunk")
    coco_ids = True

    def recognises(self, names: Iterable[str]) -> bool:
        """Whether these are names of a detector of torchvision, limbeck's own included."""
        return recognises(names)

    def read(self, source: str, contents: Contents, style: Style | None) -> Checkpoint:
        """A detector, or a classifier; torchvision has one style alone."""
        tensors = contents.tensors
        if not recognises(tensors):
            return Checkpoint(source, NAME, "trunk", tensors, contents=contents)
        if kind_of(tensors) == "GFL":
            raise ValueError(
                "these weights are of a GFL, which torchvision does not have. Give them without "
                "the name of a library."
            )
        network = architecture(read(tensors))
        arguments = network.arguments
        if network.kind in PRESETS:  # the others are torchvision's alone
            arguments = arguments | {"preset": NAME}
        if network.kind != "SSD":
            arguments = arguments | {"stride_in_1x1": False}
        return Checkpoint(source, NAME, network.kind, tensors, arguments, contents=contents)

    def write(self, checkpoint: Checkpoint, *, coco_ids: bool) -> Tensors:
        """A network, for inputs in ImageNet's standard deviation; an SSD's is told in any case."""
        if checkpoint.kind == "SSD":
            return write(checkpoint.tensors, coco_ids=coco_ids)
        tensors = with_std(checkpoint, IMAGENET_DEFAULT_STD)
        if checkpoint.kind == "trunk":
            return tensors
        if checkpoint.arguments.get("preset", NAME) == NAME:
            if not coco_ids:
                return up_to_date(tensors)
            tensors = read(tensors)
        return write(tensors, coco_ids=coco_ids)

    def told(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """What no state dict says: inputs, anchors, and how detections are chosen."""
        given, usual = checkpoint.arguments | checkpoint.test_arguments, dict(_USUAL)
        if checkpoint.kind == "SSD":
            return {name: given[name] for name in _OF_SSD if given.get(name) is not None}
        if checkpoint.kind == "FCOS":
            usual |= _OF_FCOS
        elif checkpoint.kind != "trunk":
            levels = range(given["levels"][0], given["levels"][1] + 1)
            retinanet = checkpoint.kind == "RetinaNet"
            sizes = retinanet_sizes(levels, rounded=False) if retinanet else rpn_sizes(levels)
            most = PRESETS[checkpoint.kind]["torchvision"].detections_per_image
            usual |= {"anchor_sizes": sizes, "detections_per_image": most}
        leaky = given.get("activation") == "leaky_relu"
        return unusual(given, usual) | ({"activation": "leaky_relu"} if leaky else {})


def contiguous(checkpoint: Checkpoint) -> Checkpoint:
    """A detector of torchvision's with COCO's 91 identifiers for classes, less those not used.

    Args:
        checkpoint: The detector.

    Returns:
        The detector with 80 classes.

    Raises:
        ValueError: It is no such detector.
    """
    if checkpoint.kind in PRESETS and checkpoint.arguments.get("preset") != NAME:
        raise ValueError(
            f"{checkpoint.source} is {checkpoint.library}'s: only torchvision's detectors have "
            "COCO's 91 identifiers for classes."
        )
    tensors = write(read(checkpoint.tensors, coco_ids=True))
    arguments = checkpoint.arguments | {"num_classes": len(COCO_IDS)}
    return replace(checkpoint, tensors=tensors, arguments=arguments)


def with_published_eps(contents: Contents) -> Contents:
    """A file as it is, or with an eps if it is one of those that torchvision runs without.

    They are known by the checksum at the end of their published names.
    """
    if not recognises(contents.tensors):
        return contents
    with contents.path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()[:8]
    if any(each.url.endswith(f"-{found}.pth") for each in WITHOUT_EPS):
        return replace(contents, tensors=with_eps(contents.tensors))
    return contents


def with_eps(tensors: Tensors, eps: float = 1e-5) -> Tensors:
    """The same function with ``eps`` in every normalisation, where there was none.

    Scaling the weight is exact; lowering the variance instead would make that of a dead channel
    negative.
    """
    folded = dict(tensors)
    for name, variance in tensors.items():
        if name.endswith(".running_var"):
            weight = name.removesuffix("running_var") + "weight"
            variance = variance.double()
            scale = torch.sqrt((variance + eps) / variance)
            folded[weight] = (tensors[weight] * scale).to(tensors[weight].dtype)
    return folded
