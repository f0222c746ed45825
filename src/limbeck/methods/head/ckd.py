"""Cross-architecture distillation (CKD): the dense head learns the features of regions."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from limbeck.models.detection.parts.selection import written

Adapter = Literal["shared", "per_anchor"]


class CKD(nn.Module):
    """Mean squared error between the cell that proposed a region and that region's features.

        L = mean over regions and channels of (W f[level, image, y, x] + b - t)^2

    with f behind the last convolution of the classification tower, and t behind the last hidden
    layer of a box head. Regions that no anchor proposed (ground truth) do not count.

    Args:
        channels: The channels of the tower.
        width: The width of the hidden layer.
        anchors: The number of anchors of each cell.
        adapter: ``shared``: one W and b, as released; ``per_anchor``: one for each anchor of a
            cell, as in the paper.
    """

    def __init__(self, channels: int, width: int, anchors: int, adapter: Adapter) -> None:
        super().__init__()
        self.anchors = anchors if adapter == "per_anchor" else 1
        self.adapter = nn.Linear(channels, self.anchors * width)

    def forward(self, tower: Sequence[Tensor], positions: Tensor, target: Tensor) -> Tensor:
        """The loss L of one batch.

        Args:
            tower: The output f of the classification tower at each level, (B, C, H, W).
            positions: The image, level, y, x and anchor of each region, (R, 5). The level is -1 for
                those that do not count.
            target: The hidden layer t for each region, (R, width).

        Returns:
            A scalar.
        """
        counts = positions[:, 1] >= 0
        # Regions that do not count are read, too, and masked: counting them would wait for the
        # device.
        positions = torch.where(counts[:, None], positions, 0)
        adapted = self.adapt(cells(tower, positions), positions[:, 4])
        error = (adapted.float() - target.float()).square().sum(1) * counts
        return error.sum() / (counts.sum() * target.shape[1]).clamp(min=1)

    def adapt(self, features: Tensor, anchor: Tensor) -> Tensor:
        """Adapt features, (R, C) to (R, width), by each region's own anchor (R,) if so wanted."""
        adapted: Tensor = self.adapter(features)
        if self.anchors == 1:
            return adapted
        row = torch.arange(len(anchor), device=anchor.device)
        width = adapted.shape[1] // self.anchors  # -1 is not known where there is no region
        return adapted.view(len(row), self.anchors, width)[row, anchor]


def cells(maps: Sequence[Tensor], positions: Tensor) -> Tensor:
    """The features of cells, by one indexed read.

    Args:
        maps: The map of each level, (B, C, H, W).
        positions: The image, level, y, x, ... of each cell, (R, 4 or more).

    Returns:
        The feature of each cell, (R, C).
    """
    image, level, y, x = positions.T[:4]
    widths = [m.shape[3] for m in maps]
    areas = [m.shape[2] * m.shape[3] for m in maps]
    starts = [sum(areas[:i]) for i in range(len(maps))]
    index = written(starts, level)[level] + y * written(widths, level)[level] + x
    flat = torch.cat([m.flatten(2) for m in maps], dim=2)  # (B, C, all cells)
    return flat[image, :, index]
