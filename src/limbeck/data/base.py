"""The base class of every dataset: decoded images with their targets, not yet transformed."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor

Task = Literal["detection", "classification"]
Target = dict[str, Tensor] | Tensor

ORIENTATION, SIDEWAYS = 0x0112, {5, 6, 7, 8}  # the EXIF tag, and its values that swap the sides


class VisionDataset(Dataset[tuple[tv_tensors.Image, Target]], ABC):
    """Images with targets, in the form that ``torchvision.transforms.v2`` reads.

    An item is ``(image, target)``. The image is a ``tv_tensors.Image``, uint8 RGB of shape
    (3, H, W). The target of classification is the index of the class, an int64 scalar that counts
    from 0. The target of detection is a dictionary over the N objects of the image:

    * ``boxes`` are ``tv_tensors.BoundingBoxes``, float32 (N, 4): x1, y1, x2, y2 in pixels, where
      x2 and y2 are exclusive.
    * ``labels`` are int64 (N,), and count from 1: label ``i + 1`` is ``classes[i]``.
    * ``image_id`` is an int64 scalar that is unique in the dataset.
    * ``area`` is float32 (N,): the area of the object's outline in pixels where the dataset has
      one, otherwise that of the box.
    * ``iscrowd`` is int64 (N,): 1 for a region that an evaluator ignores, as COCO defines it, and
      0 for an object.
    * Whatever else a layout says of each object has a row for each: ``difficult`` of PASCAL VOC is
      bool (N,); ``truncation`` and ``occlusion`` of KITTI are float32 (N,) and int64 (N,);
      ``easy``, ``medium`` and ``hard`` of WIDER FACE are bool (N,).

    A subclass sets both attributes and defines the three methods.

    Attributes:
        task: The task of the targets, ``"detection"`` or ``"classification"``.
        classes: The names of the foreground classes, in the order of the labels.
    """

    task: Task
    classes: tuple[str, ...]

    @abstractmethod
    def __len__(self) -> int:
        """The number of images."""

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        """Read one image and its target.

        Args:
            index: The position in the dataset, from 0 to ``len(self) - 1``.

        Returns:
            The image and its target, as the class describes them.

        Raises:
            BadSampleError: The image cannot be read, or its boxes are not those of its pixels.
        """

    @abstractmethod
    def image_size(self, index: int) -> tuple[int, int]:
        """The (height, width) of the image at a position in pixels, without decoding it."""


class BadSampleError(OSError):
    """An image cannot be read, or its boxes are not those of its pixels; the message names it."""


# Above it a network's shorter side has no pixel left, or its longer one takes all memory.
MOST_ASPECT = 200


@contextmanager
def open_image(path: str | Path) -> Iterator[PIL.Image.Image]:
    """Open an image file, and let every error while it is decoded name the file.

    Args:
        path: The image file.

    Yields:
        The open image, whose pixels are decoded when they are first used.

    Raises:
        BadSampleError: The file is missing, is not an image, is damaged, or has more pixels than
            Pillow takes for an attack (``2 * PIL.Image.MAX_IMAGE_PIXELS``, 179 million).
    """
    try:
        with PIL.Image.open(path) as image:
            yield image
    except Exception as error:  # damaged files make decoders stumble over whatever comes next
        raise BadSampleError(
            f"{path}: not a readable image ({type(error).__name__}: {error}); replace it or leave "
            "it out"
        ) from error


def to_rgb(image: PIL.Image.Image) -> tv_tensors.Image:
    """Decode an image to RGB, whatever mode its file has.

    Grey values of 16 bits are scaled to 8 bits. Transparency is dropped, as other readers such as
    torchvision's drop it: a transparent pixel has the colour that is stored with it.

    Args:
        image: The open image.

    Returns:
        The pixels, uint8 (3, H, W).

    Raises:
        ValueError: The pixels are floats, or integers of more than 16 bits, whose range nobody
            knows; or one side is over 200 times the other.
    """
    short, long = sorted(image.size)
    if long > MOST_ASPECT * short:
        raise ValueError(
            f"it is {image.height} x {image.width} px (height x width), of which nothing is left "
            f"where it is resized; expected sides of at most {MOST_ASPECT} : 1"
        )
    if image.mode.startswith("I"):
        return tv_tensors.Image(_from_16_bits(image).expand(3, -1, -1).contiguous())
    if image.mode == "F":
        raise ValueError("its pixels are floats; expected 8 or 16 bits a channel")
    if image.mode == "P":
        image = image.convert("RGBA")  # Pillow warns where a palette has transparency
    return tv_tensors.Image(pil_to_tensor(image.convert("RGB")))


def _from_16_bits(image: PIL.Image.Image) -> Tensor:
    """The grey values as uint8 (H, W); Pillow's own conversion clips them at 255."""
    pixels = torch.from_numpy(np.asarray(image).astype(np.int64))
    low, high = pixels.min(), pixels.max()
    if low < 0 or high > 65535:
        raise ValueError(f"its pixels range from {low} to {high}; expected 8 or 16 bits a channel")
    return ((pixels + 128) // 257).to(torch.uint8)


def is_sideways(image: PIL.Image.Image) -> bool:
    """Whether the image's EXIF orientation swaps its height and its width."""
    return image.getexif().get(ORIENTATION) in SIDEWAYS
