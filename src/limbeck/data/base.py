"""What every dataset of limbeck is: decoded images with targets, transformed by nobody yet."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import PIL.Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor

Task = Literal["detection", "classification"]
Target = dict[str, Tensor] | Tensor


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
    * ``difficult``: bool (N,), only in datasets that have it (PASCAL VOC).

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
        """The image and its target."""

    @abstractmethod
    def image_size(self, index: int) -> tuple[int, int]:
        """``(height, width)`` of an image in pixels, without decoding it."""


@contextmanager
def open_image(path: str | Path) -> Iterator[PIL.Image.Image]:
    """An open image file; what goes wrong while it is read names the file.

    Raises:
        OSError: the file is not an image, or is damaged.
    """
    try:
        with PIL.Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OSError(
            f"{path}: not a readable image ({error}); replace it or leave it out"
        ) from error


def to_rgb(image: PIL.Image.Image) -> tv_tensors.Image:
    """Decodes to uint8 RGB of (3, H, W), from whatever mode the file has."""
    return tv_tensors.Image(pil_to_tensor(image.convert("RGB")))
