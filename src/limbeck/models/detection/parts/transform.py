"""Resizing and batching of images as detectron2 and mmdetection do it."""

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from limbeck.frame import is_unresized
from limbeck.models.detection.parts.matcher import PADDED_SIZE
from limbeck.models.precision import in_full_precision
from limbeck.presets import Preset

Targets = list[dict[str, Tensor]]


def refuse_vanishing(transform: GeneralizedRCNNTransform, arguments: tuple[Any, ...]) -> None:
    """Refuse images without a pixel, or of which resizing leaves none: a hook before a transform.

    Args:
        transform: The transform.
        arguments: Its arguments, of which the first are the images, (3, H, W) each.

    Raises:
        ValueError: An image has no pixel, or is too long for its width, or too wide for its height.
    """
    keeps_aspect = transform.fixed_size is None and not transform.training
    for number, image in enumerate(arguments[0]):
        short, long = sorted(image.shape[-2:])
        if short == 0 or (keeps_aspect and long >= short * transform.max_size):
            most = f", and sides of less than {transform.max_size:g} : 1" if keeps_aspect else ""
            raise ValueError(
                f"images[{number}] is {tuple(image.shape)}, of which resizing leaves no pixel; "
                f"expected (3, H, W) with one pixel at least{most}. Leave it out, or crop it."
            )


def resized(
    image: Tensor, target: dict[str, Tensor] | None, size: Sequence[int], *, antialias: bool
) -> tuple[Tensor, dict[str, Tensor] | None]:
    """Resize an image and its boxes bilinearly, in float32.

    Args:
        image: The image (3, H, W).
        target: The ``boxes`` (M, 4) of the image, which are scaled with it, or None.
        size: The height and the width in pixels.
        antialias: Whether pixels are averaged where the image becomes smaller.

    Returns:
        The image and the target.
    """
    full = in_full_precision(image)[None]  # half precision has no antialias on CPUs
    found = F.interpolate(full, list(size), mode="bilinear", antialias=antialias)[0]
    if target is not None:
        target["boxes"] = resize_boxes(target["boxes"], image.shape[-2:], size)
    return found.to(image.dtype), target


class Transform(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's transform, with its constants as buffers.

    torchvision brings them to the device for every image, for which a GPU is waited for.

    Args:
        min_size: The shorter side of a resized image, in pixels.
        max_size: The bound of its longer side, in pixels.
        mean: The mean of each input channel, RGB in [0, 1].
        std: The standard deviation of each input channel.
        size_divisible: What the sides of a padded batch are multiples of, in pixels.
        fixed_size: The (width, height) to which images are resized. None: their aspect is kept.

    Attributes:
        mean: The mean of each input channel, (3, 1, 1).
        std: The standard deviation of each input channel, (3, 1, 1).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        min_size: int,
        max_size: float,
        mean: Sequence[float],
        std: Sequence[float],
        size_divisible: int = 32,
        fixed_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(
            min_size,
            max_size,
            list(mean),
            list(std),
            size_divisible,
            fixed_size,
            _skip_resize=True,  # in training mode
        )
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    @classmethod
    def of(cls, stock: GeneralizedRCNNTransform) -> "Transform":
        """This transform with the sizes, the means and the deviations of torchvision's own."""
        return Transform(
            stock.min_size[0],
            stock.max_size,
            stock.image_mean,
            stock.image_std,
            stock.size_divisible,
            stock.fixed_size,
        )

    def forward(
        self, images: list[Tensor], targets: Targets | None = None
    ) -> tuple[ImageList, Targets | None]:
        """Normalise and resize images, and bring them into one padded batch.

        Args:
            images: The images, (3, H, W) each, RGB in [0, 1].
            targets: The targets of the images, or None.

        Returns:
            The batch and the targets.

        Raises:
            ValueError: There is no image.
        """
        images = list(images)
        if not images:
            raise ValueError("there is no image; expected one at least, (3, H, W).")
        if not self._fit_as_they_are(images):
            found: tuple[ImageList, Targets | None] = super().forward(images, targets)
            return found
        # The same numbers in three operations, in place of three for each image.
        batch = torch.stack(images)
        batch.sub_(self.mean.to(batch.dtype)).div_(self.std.to(batch.dtype))
        height, width = batch.shape[-2:]
        own = None if targets is None else [dict(target) for target in targets]
        return ImageList(batch, [(height, width)] * len(images)), own

    def _fit_as_they_are(self, images: Sequence[Tensor]) -> bool:
        """Whether the images are of one size, and are neither resized nor padded."""
        first = images[0]
        return (
            (self.training or is_unresized(self))
            and all(image.shape == first.shape for image in images)
            and all(image.dtype == first.dtype for image in images)
            and first.dim() == 3
            and first.is_floating_point()
            and not any(side % self.size_divisible for side in first.shape[1:])
        )

    def normalize(self, image: Tensor) -> Tensor:
        """Normalise an image (3, H, W) by the mean and the deviation of each channel."""
        if not image.is_floating_point():
            raise TypeError(f"images are {image.dtype}: expected float in [0, 1]. Divide by 255.")
        return (image - self.mean.to(image.dtype)) / self.std.to(image.dtype)


class ReferenceTransform(Transform):
    """torchvision's transform with sizes rounded to the nearest pixel.

    Images are resized in evaluation mode alone. Both libraries resize 8-bit images before they
    normalise them; here floats are resized, so pixels may differ by half a grey level. detectron2
    rounds 1 in 8395 sizes the other way.

    Args:
        preset: The numerics of the detector.
        min_size: The shorter side of a resized image, in pixels.
        max_size: The bound of its longer side, in pixels.
        mean: The mean of each input channel, RGB in [0, 1].
        std: The standard deviation of each input channel.
    """

    def __init__(
        self, preset: Preset, min_size: int, max_size: float, mean: list[float], std: list[float]
    ) -> None:
        super().__init__(min_size, max_size, mean, std)
        self.preset = preset

    @classmethod
    def like(cls, stock: GeneralizedRCNNTransform, preset: Preset) -> Self:
        """This transform with the sizes, the means and the deviations of torchvision's own."""
        side = stock.min_size[0]
        return cls(preset, side, stock.max_size, stock.image_mean, stock.image_std)

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Resize an image so that its shorter side is ``min_size``, if the longer side then fits.

        Args:
            image: The image (3, H, W).
            target: The ``boxes`` (M, 4) of the image, which are scaled with it, or None.

        Returns:
            The image and the target. In training mode they are as they came.
        """
        if self.training:
            return image, target
        before = image.shape[-2:]
        scale = min(self.min_size[-1] / min(before), self.max_size / max(before))
        size = [int(side * scale + 0.5) for side in before]
        return resized(image, target, size, antialias=self.preset.antialias)

    def forward(
        self, images: list[Tensor], targets: Targets | None = None
    ) -> tuple[ImageList, Targets | None]:
        """Normalise and resize images, and bring them into one padded batch.

        Args:
            images: The images, (3, H, W) each, RGB in [0, 1].
            targets: The targets of the images, or None.

        Returns:
            The batch and the targets. Where the preset ignores the padding, each target has the
            padded size of its image as well.
        """
        batch, targets = super().forward(images, targets)
        if targets is not None and self.preset.ignore_padding:
            sizes = [[self._padded(side) for side in size] for size in batch.image_sizes]
            # One copy for the batch: each of them makes the host wait for the device.
            padded = torch.tensor(sizes, device=batch.tensors.device)
            for target, size in zip(targets, padded, strict=True):
                target[PADDED_SIZE] = size
        return batch, targets

    def _padded(self, side: int) -> int:
        divisor: int = self.size_divisible
        return math.ceil(side / divisor) * divisor
