"""The base class of every dataset: decoded images with their targets, not yet transformed."""

import errno
import os
import stat
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

# Pillow's other formats run programs (PostScript: Ghostscript), or are no photographs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_PLAIN_SUFFIXES = (".ppm", ".pgm", ".pbm", ".pnm")  # whose content says too little to go by it
# A file of a megabyte can claim any size. 50 megapixels (8192 x 6144, as telephones take them) are
# 0.2 GB to decode, and 1.4 GB where they become floats; images of the datasets have a tenth.
MOST_PIXELS = 3 * 2**24


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


# Trouble of which no image is the cause: no free file descriptor or memory, a share that is gone.
_OF_THE_MACHINE = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
}


@contextmanager
def open_image(
    path: str | Path, annotated: tuple[int, int] | None = None
) -> Iterator[PIL.Image.Image]:
    """Open an image file, and let every error while it is decoded name the file.

    Args:
        path: The image file: a BMP, GIF, JPEG, PNG, TIFF or WebP, whatever its suffix; or a PPM or
            PGM whose suffix says so. Other formats are not opened, as some are programs.
        annotated: The (height, width) in pixels that an annotation states, either way round. None:
            it states none.

    Yields:
        The open image, whose pixels are decoded when they are first used.

    Raises:
        BadSampleError: The file is missing, is no such image, is damaged, is of another size than
            annotated, or has more pixels than the environment variable ``LIMBECK_MOST_PIXELS``
            says (:data:`MOST_PIXELS`, unless it is set).
    """
    try:
        _refuse_devices(file := Path(path))
        plain = file.suffix.lower() in _PLAIN_SUFFIXES
        with PIL.Image.open(path, formats=[*FORMATS, "PPM"] if plain else FORMATS) as image:
            _check_size(path, image, annotated)
            yield image
    except BadSampleError:
        raise
    except Exception as error:  # damaged files make decoders stumble over whatever comes next
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            raise OSError(
                error.errno,
                f"{path} could not be opened ({error.strerror}), which is no fault of the image. "
                "Mend that (`ulimit -n`, the mount), and resume",
            ) from error
        raise BadSampleError(
            f"{path}: not a readable image ({type(error).__name__}: {error}); replace it or leave "
            "it out"
        ) from error


def _refuse_devices(path: Path) -> None:
    """Raise where reading would never end, as a pipe's may."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise BadSampleError(f"{path} is a pipe or a device, no image file; leave it out")


def _check_size(
    path: str | Path, image: PIL.Image.Image, annotated: tuple[int, int] | None
) -> None:
    """Refuse an image by its header, before it takes memory."""
    size = image.height, image.width
    if annotated is not None and size not in (annotated, annotated[::-1]):
        raise BadSampleError(
            f"{path} has height and width {size}, its annotation says {annotated}: its boxes do "
            "not fit; correct one of the two"
        )
    most = os.environ.get("LIMBECK_MOST_PIXELS", str(MOST_PIXELS))
    if not most.isdecimal():
        raise BadSampleError(
            f"the environment variable LIMBECK_MOST_PIXELS is {most!r}, expected a number"
        )
    if image.height * image.width > int(most):
        raise BadSampleError(
            f"{path} has height and width {size}, more than {int(most):,} pixels; scale it "
            f"down, or set the environment variable LIMBECK_MOST_PIXELS to {size[0] * size[1]}"
        )


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
    if image.mode != "RGB":
        image = image.convert("RGB")
    return tv_tensors.Image(pil_to_tensor(image))


def _from_16_bits(image: PIL.Image.Image) -> Tensor:
    """The grey values as uint8 (H, W); Pillow's own conversion clips them at 255."""
    pixels = np.asarray(image)
    low, high = pixels.min(), pixels.max()
    if low < 0 or high > 65535:
        raise ValueError(f"its pixels range from {low} to {high}; expected 8 or 16 bits a channel")
    # (pixels + 128) // 257 without leaving 16 bits.
    quotient, rest = np.divmod(pixels.astype(np.uint16), np.uint16(257))
    return torch.from_numpy((quotient + (rest > 128)).astype(np.uint8))
