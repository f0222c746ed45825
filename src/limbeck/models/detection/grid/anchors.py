"""Anchors of stated widths and heights, on every cell of one map."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from limbeck.frame import Extent
from limbeck.models.detection.parts.anchors import KeptAnchors

_MOST = 1e6  # pixels


class GridAnchors(nn.Module, ABC):
    """A generator of anchors for one map, called as torchvision's detectors call theirs.

    The anchors have full precision whatever the map has. Their order is by cell, row after row,
    then by shape.

    Args:
        shapes: The (width, height) of each anchor of a cell, in pixels.

    Attributes:
        sides: The same widths and heights, (K, 2).

    Raises:
        ValueError: There is no shape, or one that is not two positive sides.
    """

    sides: Tensor

    def __init__(self, shapes: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.shapes = tuple(tuple(float(side) for side in shape) for shape in shapes)
        pairs = all(len(shape) == 2 for shape in self.shapes)
        sides = [side for shape in self.shapes for side in shape]
        if not sides or not pairs or not all(0 < side < _MOST for side in sides):
            raise ValueError(
                f"anchor_shapes={list(shapes)}: expected one (width, height) or more, in pixels. "
                "`limbeck anchors` finds those that suit a dataset."
            )
        self.register_buffer("sides", torch.tensor(self.shapes), persistent=False)
        self.kept = KeptAnchors()

    def num_anchors_per_location(self) -> list[int]:
        """The number of anchors of a cell, in a list of one: there is one map."""
        return [len(self.shapes)]

    def forward(self, images: ImageList, maps: list[Tensor]) -> list[Tensor]:
        """The anchors of every image of a batch.

        Args:
            images: The batch, padded.
            maps: The one map, (B, C, H, W).

        Returns:
            For each image the anchors (H * W * K, 4), xyxy, in pixels of the network's frame.
        """
        (feature,) = maps

        def make() -> Tensor:
            cells, extent = feature.shape[-2:], images.tensors.shape[-2:]
            return self.on((cells[0], cells[1]), (extent[0], extent[1]), feature.device)

        return [self.kept.of(images, maps, make)] * len(images.image_sizes)

    def on(self, cells: Extent, extent: Extent, device: torch.device | None = None) -> Tensor:
        """The anchors of a map.

        Args:
            cells: The (H, W) of the map, in cells.
            extent: The (height, width) of the padded batch, in pixels.
            device: The device of the anchors. None: torch's default one.

        Returns:
            The anchors (H * W * K, 4), xyxy, in pixels.
        """
        # In float64: sides over cells are no round numbers.
        y, x = (self.centres(n, side) for n, side in zip(cells, extent, strict=True))
        half = torch.tensor(self.shapes, dtype=torch.float64) / 2  # (K, 2)
        centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[:, :, None]  # (H, W, 1)
        anchors = torch.cat([centres - half, centres + half], dim=-1)
        return anchors.reshape(-1, 4).to(device=device, dtype=torch.float32)

    @abstractmethod
    def centres(self, cells: int, side: int) -> Tensor:
        """Where the centres of the cells lie along one side.

        Args:
            cells: The number of cells along the side.
            side: The length of the side, in pixels.

        Returns:
            The centres (cells,), in pixels, float64.
        """
