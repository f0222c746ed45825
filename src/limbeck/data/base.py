"""What every dataset of limbeck is: decoded images with targets, transformed by nobody yet."""

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

    An item is ``(image, target)``. The image is a ``tv_tensors.Image``, uint8 RGB of (3, H, W). The
    target of classification is the class index, an int64 scalar that counts from 0. The target of
    detection is a dictionary over the N objects of the image:

    * ``boxes``: ``tv_tensors.BoundingBoxes``, float32 (N, 4), x1 y1 x2 y2 in pixels, exclusive;
    * ``labels``: int64 (N,), counting from 1: label ``i + 1`` is ``classes[i]``;
    * ``image_id``: int64 scalar, unique in the dataset;
    * ``area``: float32 (N,), in pixels, of the object's outline where the dataset has one;
    * ``iscrowd``: int64 (N,), 1 for a region that an evaluator ignores, as COCO defines it;
    * whatever else the layout says of each object, a row each: PASCAL VOC's ``difficult``, bool
      (N,); KITTI's ``truncation``, float32 (N,), and ``occlusion``, int64 (N,); WIDER FACE's
      ``easy``, ``medium`` and ``hard``, bool (N,).

    Attributes:
        task: ``"detection"`` or ``"classification"``.
        classes: the names of the foreground classes, in the order of the labels.
    """

    task: Task
    classes: tuple[str, ...]

    @abstractmethod
    def __len__(self) -> int:
        """The number of images."""

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        """The image and its target.

        Raises:
            BadSampleError: the image cannot be read, or its boxes are not those of its pixels.
        """

    @abstractmethod
    def image_size(self, index: int) -> tuple[int, int]:
        """``(height, width)`` of an image in pixels, without decoding it."""


class BadSampleError(OSError):
    """An image that cannot be read, or whose boxes are not those of its pixels; it says which."""


@contextmanager
def open_image(path: str | Path) -> Iterator[PIL.Image.Image]:
    """An open image file; what goes wrong while it is decoded names the file.

    Raises:
        BadSampleError: the file is missing, is not an image, is damaged, or has more pixels than
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
    """Decodes to uint8 RGB of (3, H, W), from whatever mode the file has.

    Grey of 16 bits is scaled to 8. Transparency is dropped, as by other readers, such as
    torchvision's: a transparent pixel has the colour that is stored with it.

    Raises:
        ValueError: the pixels are floats, or integers of more than 16 bits: nobody knows their
            range.
    """
    if image.mode.startswith("I"):
        return tv_tensors.Image(_from_16_bits(image).expand(3, -1, -1).contiguous())
    if image.mode == "F":
        raise ValueError("its pixels are floats; expected 8 or 16 bits a channel")
    if image.mode == "P":
        image = image.convert("RGBA")  # Pillow warns where a palette has transparency
    return tv_tensors.Image(pil_to_tensor(image.convert("RGB")))


def _from_16_bits(image: PIL.Image.Image) -> Tensor:
    """Grey as uint8 (H, W); Pillow's own conversion clips at 255."""
    pixels = torch.from_numpy(np.asarray(image).astype(np.int64))
    low, high = pixels.min(), pixels.max()
    if low < 0 or high > 65535:
        raise ValueError(f"its pixels range from {low} to {high}; expected 8 or 16 bits a channel")
    return ((pixels + 128) // 257).to(torch.uint8)


def is_sideways(image: PIL.Image.Image) -> bool:
    """Whether its EXIF orientation swaps height and width."""
    return image.getexif().get(ORIENTATION) in SIDEWAYS
