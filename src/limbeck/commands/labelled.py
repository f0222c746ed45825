"""What a detector found on images, as the contents of a dataset that can be written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.commands.predicting import Seen
from limbeck.data.augmentation import Transform
from limbeck.data.contents import Contents
from limbeck.data.table import ImageTable, Objects

SPLIT = "train"  # what the images become


def piece_of(seen: Seen, least: Tensor | None = None) -> dict[str, Any]:
    """What is kept of an image: its size, and the boxes.

    Args:
        seen: The image, which has an answer.
        least: The lowest score of a box that is kept, by its label. Default (None): any.

    Returns:
        The ``size``, ``boxes``, ``labels`` and ``scores`` as plain values.
    """
    assert seen.image is not None
    found = seen.answer
    if least is not None:
        kept = found["scores"] >= least[found["labels"]]
        found = {name: column[kept] for name, column in found.items()}
    return {
        "size": list(seen.image.shape[-2:]),
        **{name: column.tolist() for name, column in found.items()},
    }


def refuse_unnamed(source: object, classes: Sequence[str], instead: str) -> None:
    """Refuse a model whose classes have no names, or several one name, unlike those of labels.

    Args:
        source: What the user gave, for the message.
        classes: The names of its classes.
        instead: What to do where the model cannot be saved anew, as the beginning of a sentence.

    Raises:
        ValueError: There are no names, or not one for each class.
    """
    if not classes:
        raise ValueError(
            f"{source} does not say what its classes are called; expected names for the labels. "
            f"{instead}, or save the student with its classes."
        )
    if twice := sorted({name for name in classes if classes.count(name) > 1}):
        raise ValueError(
            f"{source} has several classes of the name {', '.join(twice)}; expected a name of its "
            f"own for each. {instead}, or save the student with other names."
        )


@dataclass(frozen=True)
class SameSize:
    """A transform that is refused where it changes the size of an image: boxes are of its pixels.

    It is no closure, as some systems send it to the workers that read images.

    Attributes:
        source: Whose transform it is, for the message.
        transform: The transform.
    """

    source: str
    transform: Transform

    def __call__(self, image: Any) -> Any:
        """Transform an image; a ValueError where its size changes."""
        seen = self.transform(image)
        if seen.shape[-2:] != image.shape[-2:]:
            raise ValueError(
                f"the augmentation of {self.source} makes {tuple(seen.shape[-2:])} of height and "
                f"width {tuple(image.shape[-2:])}; boxes would be of other pixels"
            )
        return seen


def contents_of_pieces(
    paths: Sequence[Path], done: Mapping[str, Any], classes: Sequence[str]
) -> Contents:
    """The images that could be read, with what was found on them.

    Args:
        paths: The images.
        done: What is kept of each image that could be read, by its path.
        classes: The names of the classes.

    Returns:
        The contents of a dataset.

    Raises:
        ValueError: There is no image.
    """
    pieces = {str(path): done[str(path)] for path in paths if str(path) in done}
    if not pieces:
        raise ValueError(f"none of the {len(paths)} images could be read. Give others.")

    def column(name: str) -> list[Any]:
        return [value for piece in pieces.values() for value in piece[name]]

    boxes = torch.tensor(column("boxes"), dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor(column("labels"), dtype=torch.int64)
    objects = Objects(
        boxes,
        labels,
        (boxes[:, 2:] - boxes[:, :2]).prod(dim=1),
        torch.zeros_like(labels),
        {"score": torch.tensor(column("scores"), dtype=torch.float32)},
    )
    counts = [len(piece["labels"]) for piece in pieces.values()]
    sizes = [tuple(piece["size"]) for piece in pieces.values()]
    table = ImageTable.numbered(Path(), pieces, counts, objects, sizes)
    everywhere = torch.ones(len(pieces), dtype=torch.bool)
    return Contents("detection", tuple(classes), table, everywhere)
