"""Resizing and batching as detectron2 and mmdetection do it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from limbeck.models.detection.parts.matcher import PADDED_SIZE
from limbeck.models.precision import in_full_precision
from limbeck.presets import Preset

Targets = list[dict[str, Tensor]]


class ReferenceTransform(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's transform, with sizes to the nearest pixel; images are resized in evaluation.

    Both libraries resize 8-bit images before they normalise them; here floats are resized, so
    pixels may differ by half a grey level. detectron2 rounds 1 in 8395 sizes the other way.

    Args:
        preset: of the detector.
        min_size: shorter side, pixels.
        max_size: bound of the longer side, pixels.
        mean: of the input channels.
        std: likewise.
    """

    def __init__(
        self, preset: Preset, min_size: int, max_size: float, mean: list[float], std: list[float]
    ) -> None:
        super().__init__(min_size, max_size, mean, std, _skip_resize=True)
        self.preset = preset

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """(3, H, W) and its boxes, so that the shorter side is ``min_size`` if the longer fits."""
        if self.training:
            return image, target
        before = image.shape[-2:]
        scale = min(self.min_size[-1] / min(before), self.max_size / max(before))
        size = [int(side * scale + 0.5) for side in before]
        full = in_full_precision(image)[None]  # half precision has no antialias on CPUs
        resized = F.interpolate(full, size, mode="bilinear", antialias=self.preset.antialias)[0]
        if target is not None:
            target["boxes"] = resize_boxes(target["boxes"], before, size)
        return resized.to(image.dtype), target

    def forward(
        self, images: list[Tensor], targets: Targets | None = None
    ) -> tuple[ImageList, Targets | None]:
        """Normalise, resize, batch; a target gets the padded size of its image where it counts."""
        batch, targets = super().forward(images, targets)
        if targets is not None and self.preset.ignore_padding:
            for target, size in zip(targets, batch.image_sizes, strict=True):
                padded = [math.ceil(s / self.size_divisible) * self.size_divisible for s in size]
                target[PADDED_SIZE] = torch.tensor(padded, device=batch.tensors.device)
        return batch, targets
