"""The anchors of the first Faster R-CNN, in whole pixels."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator

from limbeck.models.detection.parts.anchors import ExactAnchorGenerator, anchor_generator


class IntegerAnchorGenerator(ExactAnchorGenerator):
    """The anchors of the first Faster R-CNN, on one map of stride 16.

    A window of 16 x 16 pixels is brought to each ratio and rounded, then scaled to each size; it is
    centred on the middle of the cell. These are the original's inclusive boxes with 1 added to x2
    and y2: ``(-84, -40, 99, 55)`` there is ``(-84, -40, 100, 56)`` here.

    Args:
        sizes: The sizes of the anchors, in pixels.
        aspect_ratios: The heights of the anchors over their widths.
    """

    def __init__(self, sizes: Sequence[float], aspect_ratios: Sequence[float]) -> None:
        super().__init__([4], (tuple(sizes),), (tuple(aspect_ratios),))

    def generate_anchors(
        self,
        scales: Sequence[float],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> Tensor:
        """The anchors (A, 4) of the cell at the origin: all sizes of a ratio, then of the next."""
        windows = [(round(16 / math.sqrt(ratio)), ratio) for ratio in aspect_ratios]
        sides = [
            (width * size / 16, round(width * ratio) * size / 16)
            for width, ratio in windows
            for size in scales
        ]
        half = torch.tensor(sides, dtype=dtype, device=device) / 2
        return torch.cat([8 - half, 8 + half], dim=1)


def integer_anchors(sizes: Sequence[Sequence[float]], ratios: Sequence[float]) -> AnchorGenerator:
    """A generator of these anchors, after the sizes were checked as those of the others are.

    Args:
        sizes: The sizes of the anchors in one tuple, in pixels.
        ratios: The heights of the anchors over their widths.

    Returns:
        The generator.

    Raises:
        ValueError: There is not exactly one tuple of sizes.
    """
    anchor_generator([4], sizes, ratios)
    return IntegerAnchorGenerator(sizes[0], ratios)
