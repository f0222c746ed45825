"""Detection datasets in YOLO's layout: a data.yaml, and a text file for each image."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import torch
from torchvision import tv_tensors

from limbeck.data.annotated import AnnotatedImages
from limbeck.data.base import BadSampleError, Target
from limbeck.data.files import images_in, within, without_companions
from limbeck.data.orientation import seen_size
from limbeck.data.table import ImageTable, Objects
from limbeck.texts import MOST_ROWS, read_text, read_yaml

log = logging.getLogger(__name__)

DESCRIPTION = "data.yaml"
SPLITS = ("train", "val", "test")
FORMAT = "see https://docs.ultralytics.com/datasets/detect for the format"

_IMAGES, _LABELS = "images", "labels"  # a label file lies where its image does, but for these
_BOX = 5  # columns: the class, the centre's x and y, width and height
_ROUNDING = 0.01  # by which exporters leave [0, 1]
_NO_SIZE = (1000, 1000)  # pixels, for boxes of an image that cannot be read


class YOLO(AnnotatedImages):
    """A dataset as Ultralytics' YOLO trains on it, and as Roboflow, CVAT and others export it.

    A file ``data.yaml`` names the classes and says where the images of each split are: a folder, a
    text file with a path on each line, or a list of such. The objects of
    ``images/train/0001.jpg`` stand in ``labels/train/0001.txt``, one on each line: the number of
    its class, which counts from 0, and its box, as the x and y of its centre, its width and its
    height, in shares of the image as it is seen, turned upright. An image without such a file has
    no objects. An outline of three points or more in the place of the box, as for segmentation,
    becomes the box around it; of the columns for poses (``kpt_shape``) the box is read. A line that
    comes twice in a file counts once.

    The image files are opened once, for their sizes. With ``training`` boxes are clipped to their
    images. ``iscrowd`` is 0 throughout, and ``area`` is that of the box.

    Args:
        root: The folder that holds the dataset, with its ``data.yaml``. A key ``path`` there, which
            is of the machine that wrote it, is looked at where the images are not found without it.
        split: The split: "train", "val" or "test".
        training: Whether to clip boxes, and to leave out boxes with a side of less than one pixel
            and images without objects.
        keep_images_without_boxes: Whether ``training`` keeps images without boxes, as examples of
            background.
        description: The name of the YAML file, where it is another one.

    Raises:
        FileNotFoundError: The YAML file, the split or an image that it lists is missing.
        ValueError: The YAML file or a label file is malformed or has an unknown class, no image has
            a label file, or nothing is left to learn from.
    """

    unread = "outlines and key points, of which the boxes are read"

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        training: bool = False,
        keep_images_without_boxes: bool = False,
        description: str = DESCRIPTION,
    ) -> None:
        file = _description(Path(root), description)
        stated = _read_description(file)
        classes = _classes(stated, file)
        paths = _images(stated, split, file)
        labels = [_label_file(path) for path in paths]
        _refuse_no_labels(paths, labels, file)
        keypoints = _keypoint_columns(stated, file)
        objects = [_parse(each, len(classes), keypoints) for each in labels]
        sizes = list(_sizes(paths, file))
        table = ImageTable.numbered(
            Path(),
            map(str, paths),
            map(len, objects),
            _objects(objects, sizes),
            sizes,
        )
        super().__init__(
            classes,
            table,
            source=file,
            training=training,
            keep_images_without_boxes=keep_images_without_boxes,
            boxes_of="upright",
        )

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        """An image and its target; one that could not be read at the beginning stays bad.

        Its boxes are shares of a size that nobody knew.
        """
        sample = super().__getitem__(index)
        if self.images.size(index) is None:
            raise BadSampleError(
                f"{self.images.path(index)} could not be read when the dataset was opened, and can "
                "be now: the pixels of its boxes are not known; begin anew"
            )
        return sample


def splits_there(root: Path, description: str = DESCRIPTION) -> list[str]:
    """The splits that a dataset's YAML file states and whose images are there.

    Exports state a test set also where they have none.

    Args:
        root: The folder of the dataset.
        description: The name of its YAML file.

    Returns:
        The names of the splits, of :data:`SPLITS`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no YAML, or names no classes.
    """
    file = _description(root, description)
    stated = _read_description(file)
    folders = _folders(stated.get("path"), file)
    entries = {name: stated[name] for name in SPLITS if stated.get(name)}
    first = {name: each[0] if isinstance(each, list) else each for name, each in entries.items()}
    return [name for name, each in first.items() if _first_there(str(each), folders) is not None]


def read_elsewhere(root: Path, split: str, description: str = DESCRIPTION) -> list[Path]:
    """Find what a split is read from outside of the folder of its dataset.

    Args:
        root: The folder of the dataset.
        split: The split, of :data:`SPLITS`.
        description: The name of its YAML file.

    Returns:
        Lists, and folders of images and labels; none where all lies in the folder.

    Raises:
        FileNotFoundError: The YAML file, or what it leads to, is missing.
        ValueError: It is no YAML, or names no classes.
    """
    file = _description(root, description)
    stated = _read_description(file)
    folders, own, found = _folders(stated.get("path"), file), root.resolve(), set[Path]()
    entries = stated.get(split) or []
    for entry in entries if isinstance(entries, list) else [entries]:
        place = _first_there(str(entry), folders)
        if place is None or (place.is_dir() and place.resolve().is_relative_to(own)):
            continue  # images in the folder have their labels there
        found.add(place)
        images = _of_entry(str(entry), stated.get("path"), file)
        found |= {
            parent for image in images for parent in (image.parent, _label_file(image).parent)
        }
    return sorted(p for p in found if p.exists() and not p.resolve().is_relative_to(own))


@dataclass(frozen=True, slots=True)
class _Object:
    """One line of a label file: the number of the class, and the box in shares of the image."""

    number: int
    box: tuple[float, float, float, float]  # x1, y1, x2, y2


def _description(root: Path, name: str) -> Path:
    """The YAML file of a dataset; an error says which ones are there."""
    file = root / name
    if file.is_file():
        return file
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; expected the one that holds {name}")
    there = sorted(path.name for path in root.glob("*.y*ml"))
    advice = f" There is {', '.join(there)}: name it (description)." if there else ""
    nested = sorted(root.glob(f"*/{name}"))
    if nested:
        advice = f" Did you mean {nested[0].parent}?"
    raise FileNotFoundError(f"{file} does not exist; expected a dataset in YOLO's layout.{advice}")


def _read_description(file: Path) -> Mapping[str, Any]:
    stated = read_yaml(file)
    if not isinstance(stated, Mapping) or "names" not in stated:
        raise ValueError(
            f"{file} has no names; expected the keys names, train and val, {FORMAT}. Correct it."
        )
    return stated


def _classes(stated: Mapping[str, Any], file: Path) -> list[str]:
    """The names of the classes, which are stated as a list, or by their numbers."""
    names = stated["names"]
    if isinstance(names, Mapping):
        by_number = {str(number): name for number, name in names.items()}  # which may be quoted
        if by_number.keys() != {str(number) for number in range(len(names))}:
            raise ValueError(
                f"{file}: names has the numbers {', '.join(by_number)}; expected 0 to "
                f"{len(names) - 1}, each once. Correct it."
            )
        names = [by_number[str(number)] for number in range(len(names))]
    if not isinstance(names, list):
        raise ValueError(
            f"{file}: names is {names!r}; expected a list of the classes, or a name for each "
            "number. Correct it."
        )
    if stated.get("nc", len(names)) != len(names):
        raise ValueError(
            f"{file}: nc is {stated['nc']!r}, and names has {len(names)} classes; expected the "
            "same number. Correct one of them."
        )
    return [str(name) for name in names]


def _images(stated: Mapping[str, Any], split: str, file: Path) -> list[Path]:
    """The image files of a split, in the order of its lists, and sorted within a folder."""
    given = [name for name in SPLITS if stated.get(name)]
    if split not in given:
        raise FileNotFoundError(
            f"split is {split!r}, and {file} says where the images of "
            f"{', '.join(given) or 'none'} are. Give one of them, or add the key {split}."
        )
    entries = stated[split] if isinstance(stated[split], list) else [stated[split]]
    found = [path for each in entries for path in _of_entry(str(each), stated.get("path"), file)]
    once = list(dict.fromkeys(found))  # lists may overlap
    if not once:
        where = ", ".join(map(str, entries))
        raise FileNotFoundError(f"{file}: there is no image of {split} in {where}. Add some.")
    return once


def _of_entry(entry: str, base: Any, file: Path) -> Iterator[Path]:
    """The images of a folder, or those that a text file lists."""
    folders = _folders(base, file)
    place = _first_there(entry, folders)
    if place is None:
        raise FileNotFoundError(
            f"{file}: {entry} is neither a folder nor a list of images in "
            f"{', '.join(map(str, folders))}. Correct it, or copy the images there."
        )
    if place.is_dir():
        yield from map(Path, images_in(place))
        return
    lines = filter(None, map(str.strip, read_text(place, MOST_ROWS).splitlines()))
    for line in without_companions(lines, place, lambda line: within(line, place.parent)):
        path = _first_there(line, [place.parent, *folders])
        if path is None:
            raise FileNotFoundError(
                f"{place} lists {line}, which is not there; add the image, or take it off the list"
            )
        yield path


def _folders(base: Any, file: Path) -> list[Path]:
    """The folders that a path may be seen from: the file's own, and the one that it states."""
    return [file.parent] if base is None else [file.parent, file.parent / str(base)]


def _first_there(entry: str, folders: Sequence[Path]) -> Path | None:
    """A path that exists, seen from one of several folders.

    Exports say ``../train/images`` for what lies in the folder of their own YAML file.
    """
    inside = PurePath(entry.replace("\\", "/"))
    own = PurePath(*inside.parts[1:]) if inside.parts[:1] == ("..",) else inside
    tried = (folder / each for folder in folders for each in (inside, own))
    return next((path for path in tried if path.exists()), None)


def _label_file(image: Path) -> Path:
    """The label file of an image: below ``labels`` for ``images``, otherwise beside the image."""
    parts = list(image.with_suffix(".txt").parts)
    for at in reversed(range(len(parts) - 1)):
        if parts[at] == _IMAGES:
            parts[at] = _LABELS
            break
    return Path(*parts)


def _refuse_no_labels(images: Sequence[Path], labels: Sequence[Path], file: Path) -> None:
    """Refuse images none of which has a label file, and log how many have none."""
    without = [path for path, of_it in zip(images, labels, strict=True) if not of_it.is_file()]
    if len(without) == len(images):
        raise FileNotFoundError(
            f"none of the {len(images)} images that {file} names has a label file; the first was "
            f"expected at {labels[0]}. Put the folder labels beside the folder images."
        )
    if without:
        log.info(
            "%s: %d of %d images have no label file, such as %s: they have no objects",
            file,
            len(without),
            len(images),
            without[0].name,
        )


def _keypoint_columns(stated: Mapping[str, Any], file: Path) -> int:
    """How many columns of each line are of a pose."""
    shape = stated.get("kpt_shape")
    if shape is None:
        return 0
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape)):
        raise ValueError(
            f"{file}: kpt_shape is {shape!r}; expected the number of keypoints and 2 or 3 numbers "
            "for each, such as [17, 3]. Correct it."
        )
    return int(shape[0] * shape[1])


def _parse(path: Path, classes: int, keypoints: int) -> list[_Object]:
    """The objects of a label file, each once; none where there is no such file."""
    if not path.is_file():
        return []
    objects = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if columns := line.split():
            try:
                objects.append(_object(columns, classes, keypoints))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}. Correct it: {FORMAT}.") from None
    return list(dict.fromkeys(objects))


def _object(columns: Sequence[str], classes: int, keypoints: int) -> _Object:
    number = float(columns[0])
    if not (number.is_integer() and 0 <= number < classes):
        raise ValueError(
            f"the class is {columns[0]}, expected a number from 0 to {classes - 1}, as there are "
            f"{classes} names"
        )
    shares = [float(column) for column in columns[1:]]
    if keypoints and len(columns) == _BOX + keypoints:
        shares = shares[: _BOX - 1]
    if len(shares) != _BOX - 1 and (len(shares) < 6 or len(shares) % 2):
        raise ValueError(
            f"it has {len(columns)} columns, expected 5 for a box (class, x, y, width, height), or "
            "an odd number from 7 for an outline (class and its points); a sixth one is the "
            "confidence of a prediction, which is no annotation"
        )
    if not all(-_ROUNDING <= share <= 1 + _ROUNDING for share in shares):
        raise ValueError(
            f"it has {' '.join(columns[1:])}, expected shares of the image, from 0 to 1"
        )
    return _Object(int(number), _box(shares))


def _box(shares: Sequence[float]) -> tuple[float, float, float, float]:
    """The corners of a box of a centre and sides, or of one around an outline."""
    if len(shares) == _BOX - 1:
        x, y, width, height = shares
        if min(width, height) < 0:
            raise ValueError(f"width and height are {width} and {height}, expected no less than 0")
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    xs, ys = shares[::2], shares[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _sizes(paths: Sequence[Path], file: Path) -> Iterator[tuple[int, int] | None]:
    """The (height, width) in pixels of each image as it is seen; None of one that is damaged."""
    damaged = []
    for path in paths:
        try:
            yield seen_size(path)
        except BadSampleError as error:
            damaged.append(error)
            yield None
    if damaged:
        log.warning("%s: %d images cannot be read; the first: %s", file, len(damaged), damaged[0])


def _objects(
    found: Sequence[Sequence[_Object]], sizes: Sequence[tuple[int, int] | None]
) -> Objects:
    """The objects of all images, with boxes in pixels and labels that count from 1."""
    of_all = [each for of_image in found for each in of_image]
    counts = torch.tensor([len(of_image) for of_image in found], dtype=torch.int64)
    sides = torch.tensor([(size or _NO_SIZE)[::-1] * 2 for size in sizes], dtype=torch.float64)
    shares = torch.tensor([each.box for each in of_all], dtype=torch.float64).reshape(-1, 4)
    boxes = (shares * sides.repeat_interleave(counts, dim=0)).float()
    return Objects(
        boxes=boxes,
        labels=torch.tensor([each.number + 1 for each in of_all], dtype=torch.int64),
        area=(boxes[:, 2:] - boxes[:, :2]).prod(dim=1),
        iscrowd=torch.zeros(len(boxes), dtype=torch.int64),
    )
