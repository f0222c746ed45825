"""Detection datasets in the layout of PASCAL VOC: an XML file an image, splits as lists."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision.datasets.folder import IMG_EXTENSIONS

from limbeck.data.annotated import AnnotatedImage, AnnotatedImages, Objects

PASCAL = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
SIDES = ("xmin", "ymin", "xmax", "ymax")


class VOC(AnnotatedImages):
    """A dataset in the layout of PASCAL VOC 2007 to 2012, or one that imitates it.

    (``torchvision.datasets.VOCDetection`` insists on ``VOCdevkit/VOC<year>`` below its root, knows
    no classes and gives the XML as nested strings.) Boxes in the files are 1-based and inclusive:
    ``x1 - 1, y1 - 1, x2, y2`` are ours. Objects marked difficult stay in both modes; a VOC
    evaluator ignores them. ``iscrowd`` is 0 throughout and ``area`` is the box's.

    Args:
        root: the folder that holds ``Annotations``, ``ImageSets`` and ``JPEGImages``.
        split: a list in ``ImageSets/Main``, such as ``"train"``.
        training: leave out images without objects.
        keep_images_without_boxes: with ``training``, keep them as examples of background.
        classes: the names in the order of the labels; any other name is an error. By default
            the 20 classes of PASCAL, or, where the annotations (of all splits) have a name that
            is not among them, all names found, sorted.

    Raises:
        FileNotFoundError: the layout, the split, an image or an annotation is missing.
        ValueError: an annotation is malformed, or has an unknown class.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        training: bool = False,
        keep_images_without_boxes: bool = False,
        classes: Sequence[str] | None = None,
    ) -> None:
        folder = Path(root)
        names = _read_split(folder, split)
        annotations = {name: _parse(folder / "Annotations" / f"{name}.xml") for name in names}
        if classes is None:
            every = (folder / "Annotations").glob("*.xml")
            rest = [_parse(path) for path in sorted(every) if path.stem not in annotations]
            found = {name for one in [*annotations.values(), *rest] for name in one.names}
            classes = PASCAL if found <= set(PASCAL) else sorted(found)
        files = _image_files(folder / "JPEGImages", names)
        records = [
            AnnotatedImage(files[name], image_id, annotation.size, annotation.objects(classes))
            for image_id, (name, annotation) in enumerate(annotations.items())
        ]
        if training and not keep_images_without_boxes:
            records = [record for record in records if len(record.objects)]
        super().__init__(classes, records)


@dataclass(frozen=True, slots=True)
class _Annotation:
    """One XML file: its objects by name, boxes as they are written."""

    path: Path
    size: tuple[int, int] | None
    names: list[str]
    corners: list[tuple[float, ...]]
    difficult: list[bool]

    def objects(self, classes: Sequence[str]) -> Objects:
        """The objects with boxes and labels in limbeck's conventions."""
        unknown = sorted(set(self.names) - set(classes))
        if unknown:
            raise ValueError(
                f"{self.path} has an object of the class {unknown[0]!r}, which is not among the "
                f"classes {list(classes)}; add it to them, or leave them to be found"
            )
        boxes = torch.tensor(self.corners, dtype=torch.float32).reshape(-1, 4)
        boxes[:, :2] -= 1
        return Objects(
            boxes=boxes,
            labels=torch.tensor([classes.index(n) + 1 for n in self.names], dtype=torch.int64),
            area=(boxes[:, 2:] - boxes[:, :2]).prod(dim=1),
            iscrowd=torch.zeros(len(boxes), dtype=torch.int64),
            difficult=torch.tensor(self.difficult, dtype=torch.bool),
        )


def _read_split(folder: Path, split: str) -> list[str]:
    """The names of the images of a split; says what is wrong where the layout is another."""
    lists = folder / "ImageSets" / "Main"
    missing = [p for p in (folder / "Annotations", lists, folder / "JPEGImages") if not p.is_dir()]
    if missing:
        nested = [path.parent for path in sorted(folder.glob("*/*/Annotations"))]
        nested = nested or [path.parent for path in sorted(folder.glob("*/Annotations"))]
        advice = f"; did you mean {nested[0]}?" if nested else ""
        raise FileNotFoundError(
            f"{missing[0]} is not a folder; give the root that holds Annotations, ImageSets/Main "
            f"and JPEGImages, such as VOCdevkit/VOC2007{advice}"
        )
    file = lists / f"{split}.txt"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist; the splits here are {sorted(p.stem for p in lists.iterdir())}"
        )
    return file.read_text().split()


def _image_files(folder: Path, names: list[str]) -> dict[str, Path]:
    """The image of each name, whatever its format."""
    images = (path for path in folder.iterdir() if path.suffix.lower() in IMG_EXTENSIONS)
    files = {path.stem: path for path in images}
    missing = [name for name in names if name not in files]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(names)} images of the split are not in {folder}, the "
            f"first is {missing[0]}; add them, or take them off the list in ImageSets/Main"
        )
    return files


def _parse(path: Path) -> _Annotation:
    """Reads one XML file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is no XML, or an object lacks its name or a positive box.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist, though the split lists its image; add it, or take the image "
            "off the list in ImageSets/Main"
        )
    try:
        root = ElementTree.parse(path).getroot()
        size = tuple(int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
        names, corners, difficult = [], [], []
        for element in root.findall("object"):
            box = tuple(float(_text(element, f"bndbox/{side}")) for side in SIDES)
            if not (box[0] <= box[2] and box[1] <= box[3]):
                raise ValueError(f"an object has {dict(zip(SIDES, box, strict=True))}")
            corners.append(box)
            names.append(_text(element, "name").strip())
            difficult.append(int(element.findtext("difficult") or 0) > 0)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{path}: malformed annotation ({error}); correct or remove it") from error
    height, width = size
    return _Annotation(
        path, (height, width) if height and width else None, names, corners, difficult
    )


def _text(element: ElementTree.Element, key: str) -> str:
    text = element.findtext(key)
    if text is None:
        raise ValueError(f"an object has no {key}")
    return text
