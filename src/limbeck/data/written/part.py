"""One split on its way into another layout, and what a layout has to say of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.table import ImageTable, Objects


@dataclass(frozen=True, slots=True)
class Part:
    """A split as it is written.

    Attributes:
        name: The name of the split.
        classes: The names of the classes.
        images: The images with their objects. The names are those of the new files; sizes and boxes
            are of the picture turned upright.
        category_ids: COCO's id of each class.
    """

    name: str
    classes: tuple[str, ...]
    images: ImageTable
    category_ids: tuple[int, ...]

    def with_objects(self, objects: Objects, kept: Tensor | None = None) -> "Part":
        """The same images with other objects.

        Args:
            objects: The objects, a row for each of the present ones.
            kept: Which of them stay, bool (M,). Default (None): all.

        Returns:
            The part.
        """
        table = self.images
        if kept is None:
            return replace(self, images=replace(table, objects=objects))
        before = torch.cat([table.ends.new_zeros(1), kept.cumsum(0)])
        return replace(
            self, images=replace(table, ends=before[table.ends], objects=objects.rows(kept))
        )


@dataclass(frozen=True)
class Kept:
    """What of a split a layout can hold.

    Attributes:
        part: What is written. Its boxes, labels, areas and crowds are read back as they are here.
        losses: How many objects lose something, by what is lost, in words.
    """

    part: Part
    losses: dict[str, int] = field(default_factory=dict)


ORIENTATION = (
    "EXIF turns some pictures, and where their size does not show it, nothing in this layout says "
    "which way up boxes are: state boxes_of: upright, as below."
)


class Target(ABC):
    """A layout that datasets are written in.

    Attributes:
        name: The name of the layout.
        tolerance: By how much a coordinate may differ, in pixels, when it is read back.
    """

    name: ClassVar[str]
    tolerance: ClassVar[float] = 0.0

    @abstractmethod
    def images(self, folder: Path, split: str) -> Path:
        """The folder of a split's images."""

    @abstractmethod
    def kept(self, part: Part) -> Kept:
        """What of a split this layout can hold, as limbeck's own class reads it."""

    @abstractmethod
    def write(self, folder: Path, parts: Mapping[str, Part], info: Mapping[str, Any]) -> None:
        """Write all annotations.

        Args:
            folder: The folder of the dataset, in which the images are already.
            parts: What :meth:`kept` has left of each split, by its name.
            info: What else is to be written: where the annotations are from. Empty: nothing.
        """

    @abstractmethod
    def stated(self, folder: Path, part: Part, *, upright: bool) -> dict[str, Any]:
        """What a recipe states of a split.

        Args:
            folder: The folder of the dataset.
            part: The split.
            upright: Whether there are pictures whose EXIF orientation turns them.

        Returns:
            The ``class_path`` and the ``init_args``.
        """

    def unsaid(self, parts: Sequence[Part], *, upright: bool) -> list[str]:
        """What this layout has no place for, so that a recipe has to state it.

        Args:
            parts: All splits, as they are written.
            upright: Whether there are pictures whose EXIF orientation turns them.

        Returns:
            A sentence for each thing.
        """
        return []


def shortest(
    values: NDArray[np.float64], same: Callable[[NDArray[np.float64]], NDArray[np.bool_]]
) -> NDArray[np.float64]:
    """Round each number to the fewest decimals with which it is read as what it is.

    Args:
        values: The numbers.
        same: Whether each of some candidates is read as what it is to be.

    Returns:
        The rounded numbers; those that no rounding keeps stay as they are.
    """
    found, open_ = values.copy(), np.ones(len(values), np.bool_)
    for decimals in range(12):
        candidates = np.round(values, decimals)
        done = open_ & same(candidates)
        found[done] = candidates[done]
        open_ &= ~done
    return found


def own_areas(objects: Objects) -> Tensor:
    """The areas of the boxes, (N,), as readers compute them where there are no others."""
    return (objects.boxes[:, 2:] - objects.boxes[:, :2]).prod(dim=1)


def without_areas(objects: Objects) -> tuple[Objects, int]:
    """The objects with the areas of their boxes, and how many had another one."""
    areas = own_areas(objects)
    differing = (objects.area - areas).abs() > 1e-3 * areas.clamp(min=1)
    return replace(objects, area=areas), int(differing.sum())


def without_attributes(objects: Objects, *kept: str) -> tuple[Objects, dict[str, int]]:
    """The objects with some attributes alone, and how many had each of the others."""
    found = {name: objects.attributes[name] for name in kept if name in objects.attributes}
    lost = {
        name: int((column > 0).sum())
        for name, column in objects.attributes.items()
        if name not in kept
    }
    return replace(objects, attributes=found), lost
