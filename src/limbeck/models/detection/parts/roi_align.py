"""The features of regions, read from the levels of a pyramid."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, roi_align
from torchvision.ops.poolers import initLevelMapper

from limbeck.models.detection.parts.selection import indices_of_rows
from limbeck.models.precision import in_full_precision

ROI_SIZE = 7


class RoIAlign(MultiScaleRoIAlign):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ``MultiScaleRoIAlign``, with stated scales and a choice of the alignment.

    torchvision's class guesses its scales from the first batch and keeps them, which is wrong for
    good where that batch is small. A region of side s is read from level
    ``canonical_level + log2(s / 224)``, rounded down (Lin et al., arXiv 1612.03144, equation 1).

    Args:
        levels: The first and the last level.
        aligned: Correct the half pixel by which the original RoIAlign is off, and take as many
            samples of a bin as it has pixels, as detectron2 and mmdetection do. Otherwise 2 x 2
            samples are taken of each bin, as torchvision does.
        size: The height and the width of the pooled regions.
        canonical_level: The level from which a region of 224 x 224 pixels is read.
    """

    def __init__(
        self,
        levels: tuple[int, int],
        *,
        aligned: bool,
        size: int = ROI_SIZE,
        canonical_level: int = 4,
    ) -> None:
        first, last = levels
        names = [str(index) for index in range(last - first + 1)]
        super().__init__(names, size, 0 if aligned else 2, canonical_level=canonical_level)
        self.aligned = aligned
        self.scales = [2.0**-level for level in range(first, last + 1)]
        self.map_levels = initLevelMapper(first, last, canonical_level=canonical_level)

    def forward(
        self,
        x: dict[str, Tensor],
        boxes: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> Tensor:
        """Pool every box of every image.

        Args:
            x: The maps (B, C, H, W), by their level.
            boxes: The boxes of each image, (R, 4), xyxy, in pixels.
            image_shapes: The sizes of the images, which are not used.

        Returns:
            The pooled regions of all images, (sum of R, C, size, size), in the type of the maps.
        """
        maps = [x[name] for name in self.featmap_names]
        rois = torch.cat([F.pad(of_image, (1, 0), value=i) for i, of_image in enumerate(boxes)])
        level_of = self.map_levels(boxes)
        pooled = maps[0].new_zeros(len(rois), maps[0].shape[1], *self.output_size)
        numbers = torch.arange(len(maps), device=level_of.device)
        rows = indices_of_rows(level_of == numbers[:, None])  # the device is waited for once
        for features, scale, chosen in zip(maps, self.scales, rows, strict=True):
            found = roi_align(
                in_full_precision(features),
                rois[chosen],
                self.output_size,
                scale,
                self.sampling_ratio,
                self.aligned,
            )
            pooled[chosen] = found.to(pooled.dtype)
        return pooled
