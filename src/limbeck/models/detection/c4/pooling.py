"""Features of regions as jwyang/faster-rcnn.pytorch takes them from one map, in three ways.

=========  ========================================================================================
``align``  one bilinear sample at each node of a lattice of 8 x 8, then means of 2 x 2 neighbours.
           It is not today's RoIAlign: the lattice begins at the region's corner, ends one cell
           behind it, and nodes outside the map are 0
``crop``   one bilinear sample at each of 7 x 7 nodes, the first and last on the region's border
``pool``   the largest value of each bin of whole cells (Girshick, arXiv 1504.08083)
=========  ========================================================================================

The coordinates of a region are its inclusive ones, divided by the stride.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool

from limbeck.models.detection.c4.inclusive_boxes import inclusive
from limbeck.models.precision import in_full_precision

Pooling = Literal["align", "crop", "pool"]


class SingleMapPooling(nn.Module):
    """Pool every region from the only map, in one of the three ways above.

    Args:
        kind: The way: ``align``, ``crop`` or ``pool``.
        stride: The stride of the map, in pixels.
        size: The height and the width of the pooled regions.

    Raises:
        ValueError: There is no such way.
    """

    def __init__(self, kind: Pooling, stride: int, size: int) -> None:
        super().__init__()
        if kind not in _KINDS:
            raise ValueError(f"pooling={kind!r}: expected one of {', '.join(_KINDS)}, or none.")
        self.kind, self.stride, self.size = kind, stride, size

    def forward(
        self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Pool every box of every image.

        Args:
            x: The one map (B, C, H, W), under any name.
            boxes: The boxes of each image, (R, 4), xyxy, in exclusive pixels.
            image_shapes: The sizes of the images, which are not used.

        Returns:
            The pooled regions of all images, (sum of R, C, size, size), in the type of the map.
        """
        (features,) = x.values()
        regions = torch.cat(
            [F.pad(inclusive(b) / self.stride, (1, 0), value=i) for i, b in enumerate(boxes)]
        )
        pooled = _KINDS[self.kind](in_full_precision(features), regions, self.size)
        return pooled.to(features.dtype)


def align(features: Tensor, regions: Tensor, size: int) -> Tensor:
    """Pool regions by the means of neighbouring nodes of a lattice.

    Args:
        features: The map (B, C, H, W).
        regions: The regions (R, 5): image, x1, y1, x2 and y2 in cells.
        size: The height and the width of the pooled regions.

    Returns:
        The pooled regions, (R, C, size, size).
    """
    return F.avg_pool2d(lattice(features, regions, size + 1), 2, stride=1)


def lattice(features: Tensor, regions: Tensor, nodes: int) -> Tensor:
    """Take one sample of the map at each of nodes x nodes points of every region.

    This is ``roi_align`` with one sample a bin, in bins that are centred on the nodes. Beyond the
    centres of the last cells the original extrapolates, which one more row and column do here.

    Args:
        features: The map (B, C, H, W).
        regions: The regions (R, 5): image, x1, y1, x2 and y2 in cells.
        nodes: The number of nodes along a side.

    Returns:
        The samples, (R, C, nodes, nodes), which are 0 outside of the map.
    """
    height, width = features.shape[-2:]
    first = regions[:, 1:3]  # (R, 2): x, y
    spacing = ((regions[:, 3:] - first + 1) / (nodes - 1)).clamp(min=0)
    bins = torch.cat([first - spacing / 2, first + spacing * (nodes - 0.5)], dim=1)
    padded = _extrapolated(_extrapolated(features, -1), -2)
    sampled: Tensor = roi_align(
        padded, torch.cat([regions[:, :1], bins], dim=1), nodes, sampling_ratio=1
    )
    steps = torch.arange(nodes, device=features.device)
    points = first[:, :, None] + steps * spacing[:, :, None]  # (R, 2, nodes)
    size = points.new_tensor([[width], [height]])
    x, y = ((points >= 0) & (points < size)).unbind(1)
    inside: Tensor = y[:, None, :, None] & x[:, None, None, :]
    return sampled * inside


def _extrapolated(features: Tensor, dim: int) -> Tensor:
    """The map with one more row or column, which continues the last two."""
    count = features.shape[dim]
    last = features.narrow(dim, count - 1, 1)
    before = features.narrow(dim, max(count - 2, 0), 1)
    return torch.cat([features, 2 * last - before], dim=dim)


def crop(features: Tensor, regions: Tensor, size: int) -> Tensor:
    """Pool regions by samples from one border to the other.

    Args:
        features: The map (B, C, H, W).
        regions: The regions (R, 5): image, x1, y1, x2 and y2 in cells.
        size: The height and the width of the pooled regions.

    Returns:
        The pooled regions, (R, C, size, size).
    """
    last = [max(side - 1, 1) for side in features.shape[:1:-1]]  # x, y
    corners = regions[:, 1:].reshape(-1, 2, 2) / features.new_tensor(last) * 2 - 1
    steps = torch.linspace(0, 1, size, device=features.device)
    first, end = corners[..., None].unbind(1)  # (R, 2, 1): -1 and 1 are the centres of end cells
    x, y = (first + steps * (end - first)).unbind(1)  # (R, size)
    grid = torch.stack(
        [x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=-1
    )
    found = features.new_empty(len(regions), features.shape[1], size, size)
    for image, of_image in enumerate(features):
        own = torch.where(regions[:, 0] == image)[0]
        points = grid[own].flatten(0, 1)[None]  # (1, R * size, size, 2)
        sampled = F.grid_sample(of_image[None], points, align_corners=True)[0]
        sampled = sampled.reshape(-1, len(own), size, size).transpose(0, 1)
        found = found.index_copy(0, own, sampled)
    return found


_KINDS: dict[Pooling, Callable[[Tensor, Tensor, int], Tensor]] = {
    "align": align,
    "crop": crop,
    "pool": partial(roi_pool, spatial_scale=1.0),
}
