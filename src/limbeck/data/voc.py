"""Detection datasets in the layout of PASCAL VOC: an XML file for each image, splits as lists."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
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
from limbeck.texts import read_bytes, read_text

PASCAL = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
SIDES = ("xmin", "ymin", "xmax", "ymax")


class VOC(AnnotatedImages):
    """A dataset in the layout of PASCAL VOC 2007 to 2012, or one that imitates it.

    ``torchvision.datasets.VOCDetection`` insists on ``VOCdevkit/VOC<year>`` below its root, knows
    no classes and gives the XML as nested strings. The boxes in the files count pixels from 1 and
    are inclusive: ours are ``x1 - 1, y1 - 1, x2, y2``. With ``training`` they are clipped to their
    images. Objects that are marked difficult stay in both modes, as an evaluator of VOC ignores
    them. ``iscrowd`` is 0 throughout, and ``area`` is that of the box.

    Args:
        root: The folder that holds ``Annotations``, ``ImageSets`` and ``JPEGImages``.
        split: The name of a list in ``ImageSets/Main``, such as ``"train"``.
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

    Raises:
        FileNotFoundError: The layout, the split, an image or an annotation is missing.
        ValueError: A list or an annotation is malformed or has an unknown class, or nothing is left
            to learn from.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        training: bool = False,
        keep_images_without_boxes: bool = False,
        boxes_of: BoxesOf | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        if classes is not None:
            refuse_bad_classes(classes, f"classes: {list(classes)}")
        folder = Path(root)
        file, names = _read_split(folder, split)
        source = folder / "Annotations"
        annotations = {name: _parse(source / f"{name}.xml") for name in names}
        if classes is None:
            every = sorted(path.name for path in source.glob("*.xml"))
            rest = [
                _parse(source / name)
                for name in without_companions(every, source)
                if name.removesuffix(".xml") not in annotations
            ]
            found = {name for one in [*annotations.values(), *rest] for name in one.names}
            classes = PASCAL if found <= set(PASCAL) else sorted(found)
        images = folder / "JPEGImages"
        files = _image_files(images, names)
        table = ImageTable.numbered(
            images,
            (files[name].name for name in annotations),
            (len(one.names) for one in annotations.values()),
            _objects(list(annotations.values()), classes),
            (one.size for one in annotations.values()),
        )
        super().__init__(
            classes,
            table,
            source=file,
            training=training,
            keep_images_without_boxes=keep_images_without_boxes,
            boxes_of=boxes_of,
        )


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
    boxes = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
    boxes[:, :2] -= 1
    difficult = [mark for one in annotations for mark in one.difficult]
    return Objects(
        boxes=boxes,
        labels=torch.tensor(labels, dtype=torch.int64),
        area=(boxes[:, 2:] - boxes[:, :2]).prod(dim=1),
        iscrowd=torch.zeros(len(boxes), dtype=torch.int64),
        attributes={"difficult": torch.tensor(difficult, dtype=torch.bool)},
    )


def _read_split(folder: Path, split: str) -> tuple[Path, list[str]]:
    """The list of a split and the names in it; an error says what is wrong with another layout."""
    lists = folder / "ImageSets" / "Main"
    missing = [p for p in (folder / "Annotations", lists, folder / "JPEGImages") if not p.is_dir()]
    if missing:
        nested = [path.parent for path in sorted(folder.glob("*/*/Annotations"))]
        nested = nested or [path.parent for path in sorted(folder.glob("*/Annotations"))]
        advice = f" Did you mean {nested[0]}?" if nested else ""
        for file in [*folder.glob("*.json"), *folder.glob("annotations/*.json")][:1]:
            advice = f" With {file} it looks like COCO's layout: use limbeck.data.COCO."
        raise FileNotFoundError(
            f"{missing[0]} is not a folder; expected a root that holds Annotations, ImageSets/Main "
            f"and JPEGImages, such as VOCdevkit/VOC2007. Give that.{advice}"
        )
    file = lists / f"{split}.txt"
    if not file.is_file():
        splits = sorted(path.stem for path in lists.iterdir() if path.name[0] != ".")
        raise FileNotFoundError(
            f"split is {split!r}, and {file} does not exist. Expected one of the lists that "
            f"are there: {', '.join(splits) or 'none'}. Give one of them."
        )
    lines = read_text(file).splitlines()
    return file, without_companions([line.strip() for line in lines if line.strip()], file)


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
