"""SSD's default boxes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator


class FullPrecisionDefaultBoxGenerator(DefaultBoxGenerator):  # type: ignore[misc]  # untyped
    """torchvision's generator of SSD's default boxes, in full precision whatever the maps."""

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
    """A generator of SSD's default boxes, after its numbers were checked against each other.

    Args:
        levels: how many there are.
        scales: sides of the boxes as parts of the image's, one for each level and one more.
        ratios: of each level, beside 1, each of them also the other way round.
        steps: from box to box at each level, pixels; none: as many as the map has cells.

    Raises:
        ValueError: Not one of them for each level.
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
