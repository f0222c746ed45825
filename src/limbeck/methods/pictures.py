"""What a method shows of a batch: something that lies over its images, or matrices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

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
