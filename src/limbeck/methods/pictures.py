"""What a method shows of a batch: something that lies over its images, or matrices."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.frame import Frame

Boxes = Mapping[str, Tensor]
NOTHING = "has nothing that could be drawn"  # what is said of a method without a picture


@dataclass(frozen=True)
class OverImages:
    """What is drawn over the images of a batch.

    Attributes:
        caption: What is seen, in sentences.
        columns: By the title of a column, for each image either a map (h, w), from 0, where the
            image stays as it is, to 1; or the ``boxes`` (N, 4), xyxy in pixels, and the ``labels``
            (N,), where 0 is the background.
    """

    caption: str
    columns: Mapping[str, Sequence[Tensor | Boxes]]


@dataclass(frozen=True)
class Matrix:
    """A matrix of which some cells are chosen.

    Attributes:
        values: The values from -1 to 1, (R, C).
        chosen: The row and the column of each chosen cell, (N, 2).
    """

    values: Tensor
    chosen: Tensor


@dataclass(frozen=True)
class Matrices:
    """Matrices, such as one for each place.

    Attributes:
        caption: What is seen, in sentences.
        rows: What a row is.
        columns: What a column is.
        values: What a value is.
        matrices: The matrices by their titles.
    """

    caption: str
    rows: str
    columns: str
    values: str
    matrices: Mapping[str, Matrix]


Picture = OverImages | Matrices


def heat(frame: Frame, maps: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """The columns of maps (B, H, W) that are 0 or more, in shares of each image's largest value.

    Args:
        frame: The frame of the batch.
        maps: The maps by the titles of their columns.

    Returns:
        A map (h, w) for each image by the same titles, from 0 to 1.
    """
    return {title: frame.over_images(_in_shares(each.float())) for title, each in maps.items()}


def _in_shares(maps: Tensor) -> Tensor:
    largest = maps.amax(dim=(1, 2), keepdim=True)
    return maps / largest.clamp(min=torch.finfo(maps.dtype).tiny)


def strongest(frame: Frame, levels: Iterable[Tensor]) -> list[Tensor]:
    """The greatest of the maps (B, H, W) of all levels over each pixel, (h, w) for each image."""
    over_images = [frame.over_images(of_level) for of_level in levels]
    return [torch.stack(of_image).amax(dim=0) for of_image in zip(*over_images, strict=True)]


def of_objects(boxes: Sequence[Tensor], labels: Tensor, *, background: bool = False) -> list[Boxes]:
    """The regions of each image that are of an object, or those that are of none.

    Args:
        boxes: The regions of each image, (R_i, 4), xyxy, pixels.
        labels: The class of each region, (R,), 0 for the background.
        background: Whether the regions of the background are wanted.

    Returns:
        The ``boxes`` and the ``labels`` of each image.
    """
    pairs = zip(boxes, torch.split(labels, [len(each) for each in boxes]), strict=True)
    kept = [(each, label, (label == 0) == background) for each, label in pairs]
    return [{"boxes": each[keep], "labels": label[keep]} for each, label, keep in kept]
