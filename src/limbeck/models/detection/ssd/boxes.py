"""The default boxes of SSD, which are its anchors."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from limbeck.models.detection.parts.anchors import KeptAnchors


class FullPrecisionDefaultBoxGenerator(DefaultBoxGenerator):  # type: ignore[misc]  # untyped
    """torchvision's generator of default boxes, in full precision whatever the maps have.

    Args:
        aspect_ratios: The ratios of the boxes at each level, beside 1.
        scales: The sides of the boxes as parts of the image's sides, one more than levels.
        steps: The distance from box to box at each level, in pixels. None: that of the cells.
    """

    def __init__(
        self,
        aspect_ratios: list[list[float]],
        scales: list[float],
        steps: list[float] | None,
    ) -> None:
        super().__init__(aspect_ratios, scales=scales, steps=steps)
        self.kept = KeptAnchors()

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """The default boxes (N, 4) of every image of a batch, which are one tensor."""

        def make() -> Tensor:
            first = ImageList(image_list.tensors, image_list.image_sizes[:1])
            boxes: Tensor = super(FullPrecisionDefaultBoxGenerator, self).forward(
                first, feature_maps
            )[0]
            return boxes

        boxes = self.kept.of(image_list, feature_maps, make)
        return [boxes] * len(image_list.image_sizes)

    def _grid_default_boxes(
        self, grid_sizes: list[list[int]], image_size: list[int], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """The boxes (N, 4) of all levels: centre and sides as shares of the image's sides.

        torchvision's arithmetic, whose centres are of torch's default type: bfloat16, perhaps.
        """
        full, boxes = torch.promote_types(dtype, torch.float32), []
        for level, (rows, columns) in enumerate(grid_sizes):
            height, width = float(rows), float(columns)
            if self.steps is not None:
                height, width = (side / self.steps[level] for side in image_size)
            y = (torch.arange(rows, dtype=full) + 0.5) / height
            x = (torch.arange(columns, dtype=full) + 0.5) / width
            grid = torch.meshgrid(y, x, indexing="ij")
            centres = torch.stack(grid[::-1], dim=-1).reshape(-1, 1, 2)
            sides = self._wh_pairs[level].to(full)
            sides = sides.clamp(min=0, max=1) if self.clip else sides
            pairs = centres.expand(-1, len(sides), -1), sides.expand(len(centres), -1, -1)
            boxes.append(torch.cat(pairs, dim=-1).reshape(-1, 4))
        return torch.cat(boxes)


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
