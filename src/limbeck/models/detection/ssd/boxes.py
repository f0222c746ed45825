"""The default boxes of SSD, which are its anchors."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator


class FullPrecisionDefaultBoxGenerator(DefaultBoxGenerator):  # type: ignore[misc]  # untyped
    """torchvision's generator of default boxes, in full precision whatever the maps have."""

    def _grid_default_boxes(
        self, grid_sizes: list[list[int]], image_size: list[int], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        full = torch.promote_types(dtype, torch.float32)
        boxes: Tensor = super()._grid_default_boxes(grid_sizes, image_size, full)
        return boxes


def default_boxes(
    levels: int,
    scales: Sequence[float],
    ratios: Sequence[Sequence[float]],
    steps: Sequence[float] | None,
) -> FullPrecisionDefaultBoxGenerator:
    """A generator of default boxes, after its numbers were checked against each other.

    Args:
        levels: The number of levels.
        scales: The sides of the boxes as parts of the image's sides, one for each level and one
            more.
        ratios: The ratios of the boxes at each level, beside 1. Each of them is also taken the
            other way round.
        steps: The distance from box to box at each level, in pixels. None: there are as many boxes
            as the map has cells.

    Returns:
        The generator.

    Raises:
        ValueError: There is not one of them for each level.
    """
    found = {"scales": (scales, levels + 1), "aspect_ratios": (ratios, levels)}
    found |= {} if steps is None else {"steps": (steps, levels)}
    for name, (values, expected) in found.items():
        if len(values) != expected:
            more = " and one more" if expected > levels else ""
            raise ValueError(
                f"{name}={list(values)}: expected {expected}, one for each of the {levels} levels"
                f"{more}."
            )
    return FullPrecisionDefaultBoxGenerator(
        [list(of_level) for of_level in ratios],
        scales=list(scales),
        steps=None if steps is None else list(steps),
    )
