"""Detection datasets in the layout of PASCAL VOC: an XML file for each image, splits as lists."""

import hashlib
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import torch

from limbeck.data.annotated import (
    BOUND,
    AnnotatedImages,
    refuse_bad_classes,
)
from limbeck.data.files import images_by_stem, without_companions
from limbeck.data.orientation import BoxesOf
from limbeck.data.table import ImageTable, Objects
from limbeck.ranges import Range, refuse_outside
from limbeck.texts import read_bytes, read_text

PASCAL = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
_RANGES = {"held_out": Range(0, 1, open=True, open_above=True)}
SIDES = ("xmin", "ymin", "xmax", "ymax")


class VOC(AnnotatedImages):
    """A dataset in the layout of PASCAL VOC 2007 to 2012, or one that imitates it.

    ``torchvision.datasets.VOCDetection`` insists on ``VOCdevkit/VOC<year>`` below its root, knows
    no classes and gives the XML as nested strings. The boxes in the files count pixels from 1 and
    are inclusive: ours are ``x1 - 1, y1 - 1, x2, y2``. With ``training`` they are clipped to their
    images. Objects that are marked difficult stay in both modes, as an evaluator of VOC ignores
    them. ``iscrowd`` is 0 throughout, and ``area`` is that of the box.

    Folders of other names, such as ``images`` and ``annots``, are stated, and data without lists
    can be divided here: see ``annotations``, ``images`` and ``held_out``.

    Args:
        root: The folder that holds ``Annotations``, ``ImageSets`` and ``JPEGImages``.
        split: The name of a list in ``ImageSets/Main``, such as ``"train"``; or the path of a list,
            a text file with a name on each line, seen from ``root``; or, with ``held_out``,
            ``"train"``, ``"val"``, or ``"trainval"`` for both.
        training: Whether to clip boxes, and to leave out boxes with a side of less than one pixel
            and images without objects.
        keep_images_without_boxes: Whether ``training`` keeps images without boxes, as examples of
            background.
        boxes_of: The pixels that boxes are of, "stored" or "upright", in images with an EXIF
            orientation whose size does not tell; see :class:`AnnotatedImages`. Default (None): the
            stored ones, and the number of such images is logged.
        classes: The names of the classes in the order of the labels; any other name is an error.
            Default (None): the 20 classes of PASCAL or, where the annotations of any split have a
            name that is not among them, all names that are found, sorted.
        annotations: The name of the folder of the XML files in ``root``.
        images: The name of the folder of the images in ``root``.
        held_out: The share of all annotated images that is "val" where there is no list, above 0
            and below 1; the others are "train". Which ones are "val" goes by their names alone.
            Default (None): there is a list.

    Raises:
        FileNotFoundError: The layout, the split, an image or an annotation is missing.
        ValueError: A list or an annotation is malformed or has an unknown class, or nothing is left
            to learn from; or ``held_out`` is out of its range, or given beside a list.
    """

    unread = "pose, truncated, occluded and parts"

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        training: bool = False,
        keep_images_without_boxes: bool = False,
        boxes_of: BoxesOf | None = None,
        classes: Sequence[str] | None = None,
        annotations: str = "Annotations",
        images: str = "JPEGImages",
        held_out: float | None = None,
    ) -> None:
        if classes is not None:
            refuse_bad_classes(classes, f"classes: {list(classes)}")
        refuse_outside(_RANGES, {"held_out": held_out})
        folder = Path(root)
        layout = _Layout(folder, folder / annotations, folder / images)
        file, names = layout.divided(split, held_out) if held_out else layout.listed(split)
        source = layout.annotations
        parsed = {name: _parse(source / f"{name}.xml") for name in names}
        if classes is None:
            every = sorted(path.name for path in source.glob("*.xml"))
            rest = [
                _parse(source / name)
                for name in without_companions(every, source)
                if name.removesuffix(".xml") not in parsed
            ]
            found = {name for one in [*parsed.values(), *rest] for name in one.names}
            classes = usual_classes(found)
        files = _image_files(layout.images, names)
        table = ImageTable.numbered(
            layout.images,
            (files[name].name for name in parsed),
            (len(one.names) for one in parsed.values()),
            _objects(list(parsed.values()), classes),
            (one.size for one in parsed.values()),
        )
        super().__init__(
            classes,
            table,
            source=file,
            training=training,
            keep_images_without_boxes=keep_images_without_boxes,
            boxes_of=boxes_of,
        )


def usual_classes(found: Set[str]) -> tuple[str, ...]:
    """The classes in the order of the labels where none are stated, by the names of objects."""
    return PASCAL if found <= set(PASCAL) else tuple(sorted(found))


@dataclass(frozen=True, slots=True)
class _Annotation:
    """One XML file, with its objects as they are written."""

    path: Path
    size: tuple[int, int] | None
    names: list[str]
    corners: list[tuple[float, ...]]
    difficult: list[bool]

    def labels(self, labels: Mapping[str, int]) -> list[int]:
        """The label of each object, of the labels of all classes."""
        unknown = sorted(set(self.names) - labels.keys())
        if unknown:
            raise ValueError(
                f"{self.path} has an object of the class {unknown[0]!r}, which is not among the "
                f"classes {list(labels)}. Expected every name to be one of them; add it, or leave "
                "classes out, and they are found."
            )
        return [labels[name] for name in self.names]


def _objects(annotations: Sequence[_Annotation], classes: Sequence[str]) -> Objects:
    """The objects of all images, with boxes and labels as limbeck has them."""
    numbers = {name: label for label, name in enumerate(classes, start=1)}
    labels = [label for one in annotations for label in one.labels(numbers)]
    corners = [box for one in annotations for box in one.corners]
    inclusive = torch.tensor(corners, dtype=torch.float64).reshape(-1, 4)
    inclusive[:, :2] -= 1  # before they are rounded to float32, which keeps fractions of a pixel
    boxes = inclusive.float()
    difficult = [mark for one in annotations for mark in one.difficult]
    return Objects(
        boxes=boxes,
        labels=torch.tensor(labels, dtype=torch.int64),
        area=(boxes[:, 2:] - boxes[:, :2]).prod(dim=1),
        iscrowd=torch.zeros(len(boxes), dtype=torch.int64),
        attributes={"difficult": torch.tensor(difficult, dtype=torch.bool)},
    )


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where a dataset has its lists, its annotations and its images."""

    root: Path
    annotations: Path
    images: Path

    def listed(self, split: str) -> tuple[Path, list[str]]:
        """The list of a split and the names in it; an error says what is wrong elsewhere."""
        own, lists = self.root / split, self.root / "ImageSets" / "Main"
        if split.endswith(".txt") and own.is_file():
            self._refuse_missing()
            return own, _names(own)
        self._refuse_missing(lists)
        file = lists / f"{split}.txt"
        if not file.is_file():
            splits = sorted(path.stem for path in lists.iterdir() if path.name[0] != ".")
            raise FileNotFoundError(
                f"split is {split!r}, and {file} does not exist. Expected one of the lists that "
                f"are there: {', '.join(splits) or 'none'}. Give one of them, or the path of a "
                "list in this folder."
            )
        return file, _names(file)

    def divided(self, split: str, held_out: float) -> tuple[Path, list[str]]:
        """The folder of the annotations, and the names of a split that is made of all of them."""
        self._refuse_missing()
        file = self.root / "ImageSets" / "Main" / f"{split}.txt"
        if file.is_file():
            raise ValueError(
                f"held_out is {held_out}, and {file} says which images are of {split!r}. Expected "
                "one of the two: leave held_out out, or remove the list."
            )
        found = sorted(path.name for path in self.annotations.glob("*.xml"))
        every = [Path(name).stem for name in without_companions(found, self.annotations)]
        kept = {name: _share_of(name) < held_out for name in every}
        sides = {
            "train": [name for name in every if not kept[name]],
            "val": [name for name in every if kept[name]],
            "trainval": every,
        }
        if not sides.get(split):
            counts = ", ".join(f"{name} with {len(names)}" for name, names in sides.items())
            raise ValueError(
                f"split is {split!r}; of the {len(every)} annotations in {self.annotations}, with "
                f"held_out {held_out}, there are {counts} images. Give one that has images."
            )
        return self.annotations, sides[split]

    def _refuse_missing(self, *lists: Path) -> None:
        missing = [path for path in (self.annotations, *lists, self.images) if not path.is_dir()]
        if not missing:
            return
        nested = [path.parent for path in sorted(self.root.glob("*/*/Annotations"))]
        nested = nested or [path.parent for path in sorted(self.root.glob("*/Annotations"))]
        advice = f" Did you mean {nested[0]}?" if nested else ""
        for file in [*self.root.glob("*.json"), *self.root.glob("annotations/*.json")][:1]:
            advice = f" With {file} it looks like COCO's layout: use limbeck.data.COCO."
        raise FileNotFoundError(
            f"{missing[0]} is not a folder; expected a root that holds Annotations, ImageSets/Main "
            "and JPEGImages, such as VOCdevkit/VOC2007. Give that, or say what these folders are "
            f"called here (annotations, images), and held_out where there are no lists.{advice}"
        )


def _names(file: Path) -> list[str]:
    """The names in a list."""
    lines = filter(None, (line.strip() for line in read_text(file).splitlines()))
    return without_companions(lines, file)


def _share_of(name: str) -> float:
    """A number from 0 to 1 that a name has everywhere, and that is spread evenly over names."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8]) / 2**64


def _image_files(folder: Path, names: list[str]) -> dict[str, Path]:
    """The image file of each name, whatever its format."""
    files = images_by_stem(folder, names)
    missing = [name for name in names if name not in files]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(names)} images of the split are not in {folder}, the "
            f"first is {missing[0]}; add them, or take them off the list in ImageSets/Main"
        )
    return files


def _parse(path: Path) -> _Annotation:
    """Read one XML file, which must exist and be an annotation of VOC."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist, though the split lists {path.stem!r} (a name a line, without "
            "ending); add it, or take the image off the list in ImageSets/Main"
        )
    try:
        root = ElementTree.fromstring(read_bytes(path))
        if root.tag != "annotation":
            raise ValueError(f"its root is <{root.tag}>, expected <annotation>")
        size = [_number(root.findtext(key) or "0", key) for key in ("size/height", "size/width")]
        objects = [
            _object(element, f"object {number}")
            for number, element in enumerate(root.findall("object"), 1)
        ]
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # also: unknown encoding
        raise ValueError(f"{path}: malformed annotation ({error}); correct or remove it") from error
    return _Annotation(
        path,
        (int(size[0]), int(size[1])) if min(size) >= 1 else None,
        names=[name for name, *_ in objects],
        corners=[box for _, box, _ in objects],
        difficult=[difficult for *_, difficult in objects],
    )


def _object(element: ElementTree.Element, place: str) -> tuple[str, tuple[float, ...], bool]:
    """The name of an object, its box as it is written, and whether it is difficult."""
    name = (element.findtext("name") or "").strip()
    if not name:
        raise ValueError(f"{place} has no name")
    place = f"{place} ({name})"
    texts: dict[str, str] = {}
    for box in element.findall("bndbox"):  # findtext("bndbox/xmin") would take most of the time
        for side in box:
            texts.setdefault(side.tag, side.text or "")
    corners = tuple(_number(texts.get(side), f"bndbox/{side}", place) for side in SIDES)
    if not (corners[0] <= corners[2] and corners[1] <= corners[3]):
        raise ValueError(
            f"{place} has {dict(zip(SIDES, corners, strict=True))}, expected xmin <= xmax and "
            "ymin <= ymax"
        )
    difficult = _number(element.findtext("difficult") or "0", "difficult", place)
    return name, corners, difficult > 0


def _number(text: str | None, key: str, place: str = "it") -> float:
    if text is None:
        raise ValueError(f"{place} has no {key}")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -BOUND < value < BOUND:
        raise ValueError(f"{place} has the {key} {text!r}, expected a number")
    return value
