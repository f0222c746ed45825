"""The object detection benchmark of KITTI: a text file for each image, and splits as lists."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from limbeck.data.annotated import (
    BOUND,
    AnnotatedImages,
    refuse_bad_classes,
)
from limbeck.data.files import images_by_stem, without_companions
from limbeck.data.orientation import BoxesOf
from limbeck.data.table import ImageTable, Objects
from limbeck.texts import read_text

log = logging.getLogger(__name__)

TYPES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
NEIGHBOURS = {"Van": "Car", "Person_sitting": "Pedestrian"}  # which class ignores which type
REGION = "DontCare"
COLUMNS = (15, 16)  # without and with a score


class KITTI(AnnotatedImages):
    """The 7,481 annotated frames of KITTI's 2D object detection benchmark, or data in its layout.

    ``torchvision.datasets.Kitti`` knows neither splits nor classes. The boxes are those of the
    files, exclusive, as KITTI's own evaluator takes them.

    Without ``training`` a target says what that evaluator counts and what it ignores, in the order
    of the file: an object of a class has ``iscrowd`` 0; a neighbour (a Van for Car, a
    Person_sitting for Pedestrian) has the label of that class and ``iscrowd`` 1; a DontCare region
    has one row for each class, with ``iscrowd`` 1, ``truncation`` -1 and ``occlusion`` -1. Objects
    of other types are left out. With ``training`` only objects of the classes remain.

    A split for which there is no list is one of our own: every second frame in the order of the
    ids belongs to "val", the others belong to "train", and all of them to "trainval".

    Args:
        root: The folder that holds ``training/image_2`` and ``training/label_2``, and the lists of
            the published split in ``ImageSets`` where that one is wanted.
        split: The name of a list in ``ImageSets``, which has the id of a frame on each line, or
            "train", "val" or "trainval".
        training: Whether to clip boxes, and to leave out what is not of the classes, boxes with a
            side of less than one pixel, and images without objects.
        keep_images_without_boxes: Whether ``training`` keeps images without boxes, as examples of
            background.
        boxes_of: The pixels that boxes are of, "stored" or "upright", in images with an EXIF
            orientation whose size does not tell; see :class:`AnnotatedImages`. Default (None): the
            stored ones, and the number of such images is logged.
        classes: The types of objects that are classes, in the order of the labels.

    Raises:
        FileNotFoundError: The layout, the split, an image or a label file is missing.
        ValueError: A label file is malformed, a class is no type, or nothing is left to learn from.
    """

    unread = "types that are no class, and what is three-dimensional"

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        training: bool = False,
        keep_images_without_boxes: bool = False,
        boxes_of: BoxesOf | None = None,
        classes: Sequence[str] = ("Car", "Pedestrian", "Cyclist"),
    ) -> None:
        refuse_bad_classes(classes, f"classes: {list(classes)}")
        folder = Path(root)
        images, labels = folder / "training/image_2", folder / "training/label_2"
        for needed in (images, labels):
            if not needed.is_dir():
                raise FileNotFoundError(
                    f"{needed} is not a folder; expected a root that holds training/image_2 and "
                    "training/label_2, and perhaps ImageSets. Give that."
                )
        source, frames = _frames(folder, split)
        rows = {frame: _parse(labels / f"{frame}.txt") for frame in frames}
        _check_classes(classes, {row.type for of_frame in rows.values() for row in of_frame}, root)
        files = _image_files(images, frames, source)
        placed = [_placed(of_frame, classes) for of_frame in rows.values()]
        table = ImageTable.numbered(
            images,
            (files[frame].name for frame in rows),
            map(len, placed),
            _objects([each for of_frame in placed for each in of_frame]),
        )
        super().__init__(
            classes,
            table,
            source=source,
            training=training,
            keep_images_without_boxes=keep_images_without_boxes,
            boxes_of=boxes_of,
        )


class _Row(NamedTuple):
    """One line of a label file, as far as 2D detection needs it."""

    type: str
    truncation: float
    occlusion: int
    box: tuple[float, ...]


class _Placed(NamedTuple):
    """One object of a target."""

    row: _Row
    label: int
    ignored: bool


def _frames(folder: Path, split: str) -> tuple[Path, list[str]]:
    """The file or folder that lists the frames of a split, and their ids."""
    lists = folder / "ImageSets"
    file = lists / f"{split}.txt"
    if file.is_file():
        frames = read_text(file).split()
        return file, without_companions(frames, file)
    listed = sorted(path.stem for path in lists.glob("*.txt") if path.name[0] != ".")
    halves = {"train": slice(0, None, 2), "val": slice(1, None, 2), "trainval": slice(None)}
    # Half of our own beside a list of the other half would share frames with it.
    if split not in halves or (split != "trainval" and {"train", "val"} & set(listed)):
        raise FileNotFoundError(
            f"{file} does not exist; the splits here are {listed}. Add that list, the id of a "
            'frame a line; without any list, "train", "val" and "trainval" are ours'
        )
    labels = folder / "training/label_2"
    every = without_companions(sorted(path.stem for path in labels.glob("*.txt")), labels)
    frames = every[halves[split]]
    if split != "trainval":
        log.warning(
            "%s does not exist: %r is a split of our own, %d of %d frames, every second one. It is "
            "not the published one (3712 for training, 3769 for validation), so results do not "
            "compare with published ones. To use that, put train.txt and val.txt into %s",
            file,
            split,
            len(frames),
            len(every),
            lists,
        )
    return labels, frames


def _parse(path: Path) -> list[_Row]:
    """Read one label file, which must exist and be well-formed."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist, though the split lists {path.stem!r}; add it, or take the "
            "frame off the list"
        )
    rows = []
    lines = read_text(path).splitlines()
    for number, line in enumerate(lines, 1):
        if columns := line.split():
            try:
                rows.append(_row(columns))
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number}: {error}; correct it, or copy the file again"
                ) from error
    return rows


def _row(columns: list[str]) -> _Row:
    if len(columns) not in COLUMNS:
        raise ValueError(f"it has {len(columns)} columns, expected 15, or 16 with a score")
    numbers = [float(column) for column in columns[1:]]
    if not all(-BOUND < number < BOUND for number in numbers):
        raise ValueError(f"it has {' '.join(columns[1:])}, expected finite numbers")
    truncation, occlusion, _, *box = numbers[:7]
    if not occlusion.is_integer():
        raise ValueError(f"the occlusion is {occlusion}, expected a level from 0 to 3, or -1")
    if not (box[0] <= box[2] and box[1] <= box[3]):
        raise ValueError(f"the box is {box}, expected left <= right and top <= bottom")
    return _Row(columns[0], truncation, int(occlusion), tuple(box))


def _check_classes(classes: Sequence[str], found: set[str], root: str | Path) -> None:
    for name in classes:
        if name not in {*TYPES, *found} - {REGION}:
            raise ValueError(
                f"{root} has no object of the class {name!r}; expected a type of KITTI, "
                f"{', '.join(TYPES)}, or one of these files, "
                f"{', '.join(sorted(found - {REGION}))}. Give one of them."
            )


def _image_files(folder: Path, frames: list[str], source: Path) -> dict[str, Path]:
    """The image file of each frame; KITTI's own are PNG."""
    files = images_by_stem(folder, frames)
    missing = [frame for frame in frames if frame not in files]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(frames)} images of {source} are not in {folder}, the "
            f"first is {missing[0]}.png; add them, or take them off the list of the split"
        )
    return files


def _placed(rows: Sequence[_Row], classes: Sequence[str]) -> list[_Placed]:
    """The rows of an image with their labels; a region of any class has a label of each."""
    labels = {name: label for label, name in enumerate(classes, start=1)}
    return [
        _Placed(row, label, row.type not in labels)
        for row in rows
        for label in _labels(row.type, labels)
    ]


def _objects(placed: Sequence[_Placed]) -> Objects:
    """The objects of all images."""
    rows = [each.row for each in placed]
    boxes = torch.tensor([row.box for row in rows], dtype=torch.float32).reshape(-1, 4)
    return Objects(
        boxes=boxes,
        labels=torch.tensor([each.label for each in placed], dtype=torch.int64),
        area=(boxes[:, 2:] - boxes[:, :2]).prod(dim=1),
        iscrowd=torch.tensor([each.ignored for each in placed], dtype=torch.int64),
        attributes={
            "truncation": torch.tensor([row.truncation for row in rows], dtype=torch.float32),
            "occlusion": torch.tensor([row.occlusion for row in rows], dtype=torch.int64),
        },
    )


def _labels(type_: str, labels: dict[str, int]) -> list[int]:
    if type_ == REGION:
        return list(labels.values())
    name = type_ if type_ in labels else NEIGHBOURS.get(type_)
    return [labels[name]] if name in labels else []
