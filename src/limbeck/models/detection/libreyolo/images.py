"""How the images of a detector of LibreYOLO are prepared: as its own preprocessing does it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from limbeck.frame import Extent, is_unresized
from limbeck.models.detection.parts.transform import (
    Targets,
    Transform,
    refuse_vanishing,
    resized,
)

Letterbox = Literal["topleft", "center"]

FRAME_MULTIPLE = 32  # the stride of the coarsest map that is brought together with a finer one
_GREY = 114 / 255  # what surrounds an image in a letterbox


@dataclass(frozen=True)
class Preprocessing:
    """What one family of detectors does with images.

    Attributes:
        mean: The mean of each input channel, RGB in [0, 1].
        std: The standard deviation of each input channel.
        bgr: Whether the network takes the channels as blue, green, red.
        letterboxed: Whether images keep their aspect, and grey fills the rest of the frame.
            Otherwise they are stretched to it.
        antialias: Whether pixels are averaged where an image becomes smaller.
    """

    mean: tuple[float, float, float] = IMAGENET_DEFAULT_MEAN
    std: tuple[float, float, float] = IMAGENET_DEFAULT_STD
    bgr: bool = False
    letterboxed: bool = False
    antialias: bool = False


class LibraryTransform(Transform):
    """Brings images to the frame of a detector of LibreYOLO, in evaluation mode alone.

    In training mode images are not resized. In either mode what surrounds an image is grey where
    the library has a letterbox. The library resizes 8-bit images; here floats are resized, so that
    pixels may differ by a grey level.

    Args:
        preprocessing: What the family does with images.
        image_size: The (height, width) of the frame in evaluation mode, in pixels.
        letterbox: Where an image lies in the frame.

    Attributes:
        surrounding: What surrounds images, normalised, (3, 1, 1).
    """

    surrounding: Tensor

    def __init__(
        self, preprocessing: Preprocessing, image_size: Extent, letterbox: Letterbox
    ) -> None:
        height, width = image_size
        super().__init__(
            min(image_size),
            max(image_size),
            preprocessing.mean,
            preprocessing.std,
            FRAME_MULTIPLE,
            fixed_size=None if preprocessing.letterboxed else (width, height),
        )
        self.preprocessing = preprocessing
        self.size = (height, width)
        self.centred = letterbox == "center"
        grey = (_GREY - self.mean) / self.std if preprocessing.letterboxed else 0.0 * self.mean
        self.register_buffer("surrounding", grey, persistent=False)
        self.register_forward_pre_hook(refuse_vanishing)

    def ratio(self, extent: Sequence[int]) -> float:
        """What a letterbox multiplies the sides of an image of this (height, width) by."""
        return min(side / own for side, own in zip(self.size, extent, strict=True))

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Resize an image to the frame, or as large as fits into it.

        Args:
            image: The image (3, H, W).
            target: The ``boxes`` (M, 4) of the image, which are scaled with it, or None.

        Returns:
            The image and the target. In training mode they are as they came.
        """
        if self.training:
            return image, target
        size: Sequence[int] = self.size
        if self.preprocessing.letterboxed:
            ratio = self.ratio(image.shape[-2:])
            size = [max(1, int(side * ratio)) for side in image.shape[-2:]]
        return resized(image, target, size, antialias=self.preprocessing.antialias)

    def forward(
        self, images: list[Tensor], targets: Targets | None = None
    ) -> tuple[ImageList, Targets | None]:
        """Normalise and resize images, and bring them into one batch as the network takes it.

        Args:
            images: The images, (3, H, W) each, RGB in [0, 1].
            targets: The targets of the images, or None.

        Returns:
            The batch and the targets.
        """
        batch, targets = super().forward(images, targets)
        if self.preprocessing.bgr:
            batch = ImageList(batch.tensors.flip(1), batch.image_sizes)
        return batch, targets

    def batch_images(self, images: list[Tensor], size_divisible: int = FRAME_MULTIPLE) -> Tensor:
        """Put images into frames of one size.

        Args:
            images: The images, (3, H, W) each, normalised.
            size_divisible: What the sides of a frame are multiples of, in pixels.

        Returns:
            The batch (B, 3, H, W).
        """
        most = [max(image.shape[axis] for image in images) for axis in (1, 2)]
        frame = [-(-side // size_divisible) * size_divisible for side in most]
        framed = not (self.training or is_unresized(self))
        if framed:
            frame = list(self.size)
        first = images[0]
        batch = torch.empty(len(images), 3, *frame, dtype=first.dtype, device=first.device)
        batch.copy_(self.surrounding)
        for place, image in zip(batch, images, strict=True):
            height, width = image.shape[1:]
            top, left = 0, 0
            if framed and self.centred:
                top, left = (frame[0] - height) // 2, (frame[1] - width) // 2
            place[:, top : top + height, left : left + width] = image
        return batch
