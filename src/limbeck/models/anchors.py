"""Anchors of torchvision's detectors: their default sizes, and the image sides that suit them."""

import math
from collections.abc import Sequence
from typing import Any

from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator

Sizes = tuple[tuple[float, ...], ...]


def retinanet_sizes(levels: Sequence[int]) -> Sizes:
    """Torchvision's RetinaNet anchors: three sizes an octave, 32 to 50 pixels at level 3."""
    octaves = (1.0, 2 ** (1.0 / 3), 2 ** (2.0 / 3))
    return tuple(tuple(int(4 * 2**level * octave) for octave in octaves) for level in levels)


def rpn_sizes(levels: Sequence[int]) -> Sizes:
    """Torchvision's Faster R-CNN anchors: one size a level, 32 pixels at level 2."""
    return tuple((8 * 2**level,) for level in levels)


def anchor_generator(
    levels: Sequence[int], sizes: Sequence[Sequence[float]], ratios: Sequence[float]
) -> AnchorGenerator:
    """Torchvision's generator, after the sizes were checked against the levels.

    Args:
        levels: of the pyramid, finest first.
        sizes: of each level, pixels.
        ratios: height / width, the same at every level.

    Raises:
        ValueError: Not one tuple of sizes a level, or not all of the same length.
    """
    per_level = tuple(tuple(of_level) for of_level in sizes)
    if len(per_level) != len(levels) or len({len(s) for s in per_level}) != 1 or not per_level[0]:
        raise ValueError(
            f"anchor_sizes={per_level}: expected {len(levels)} tuples of sizes, one for each of "
            f"the levels {list(levels)}, all of one length (a head predicts for every level)."
        )
    return AnchorGenerator(per_level, (tuple(ratios),) * len(per_level))


def coarsest_stride(model: nn.Module) -> int | None:
    """Stride of the coarsest level that has anchors, pixels; None for a model without any."""
    strides = getattr(model, "strides", None)
    return max(strides) if strides else None


def unsuited_side(model: nn.Module, height: int, width: int) -> str | None:
    """Why images of this size make the anchors drift, or None where they do not.

    torchvision's ``AnchorGenerator`` takes ``image // grid`` for the stride. Where the padded side
    is no multiple of a level's stride, that is too small (30 for 32 at height 240), and anchors
    lie beside the cells that predict for them.

    Args:
        model: a detector.
        height: of the images as the network sees them, before it pads them, pixels.
        width: likewise.
    """
    strides = getattr(model, "strides", ())
    if not strides or not any(type(m) is AnchorGenerator for m in model.modules()):
        return None
    transform: Any = model.get_submodule("transform")
    multiple: int = transform.size_divisible
    messages = [
        message
        for name, side in (("height", height), ("width", width))
        if (message := _drift(name, math.ceil(side / multiple) * multiple, strides))
    ]
    return " ".join(messages) or None


def _drift(name: str, side: int, strides: Sequence[int]) -> str | None:
    """What happens at the level that is worst off on a padded ``side``."""
    stride = max(strides, key=lambda stride: _offset(side, stride))
    if not _offset(side, stride):
        return None
    cells = math.ceil(side / stride)
    suited = math.ceil(side / max(strides)) * max(strides)
    return (
        f"Images of padded {name} {side} have {cells} cells at stride {stride}: torchvision's "
        f"anchors are then {side // cells} pixels apart, not {stride}, and drift by up to "
        f"{_offset(side, stride)} pixels. Use a {name} that is a multiple of {max(strides)}, "
        f"such as {suited}."
    )


def _offset(side: int, stride: int) -> int:
    """How far the last cell's anchors lie from it, pixels."""
    cells = math.ceil(side / stride)
    return (stride - side // cells) * (cells - 1)
