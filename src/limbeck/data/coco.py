"""Detection datasets in the layout of COCO: one JSON file of instances and one folder of images."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path, PurePath
from reprlib import repr as shortened
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.data.annotated import BOUND, AnnotatedImages
from limbeck.data.files import within, without_companions
from limbeck.data.json_lists import Gather, load_lists
from limbeck.data.orientation import BoxesOf
from limbeck.data.table import ImageTable, Objects, Texts

log = logging.getLogger(__name__)

LISTS = ("images", "annotations", "categories")
FORMAT = "Correct it; COCO's format is described at https://cocodataset.org/#format-data"

_BLOCK = 256  # annotations that become arrays at once; with more Python's collector has to work
_USUAL = itemgetter("image_id", "category_id", "bbox", "area", "iscrowd")


class COCO(AnnotatedImages):
    """A dataset in the layout of COCO (https://cocodataset.org/#format-data, object detection).

    The ids of the categories become the labels 1 to K in their order, whatever gaps they have. With
    ``training`` boxes are clipped to their images; crowds, boxes with a side of less than one
    pixel and objects without area are left out, and so are images that then have no box. Without it
    every image and object stays as it is: an evaluator counts on them, and ignores what falls on
    crowds.

    Args:
        images: The folder of the image files.
        annotations: The JSON file with ``images``, ``annotations`` and ``categories``. An
            annotation without ``iscrowd`` is no crowd; one without ``area`` has the area of its
            box.
        training: Whether to leave out what cannot be learnt from.
        keep_images_without_boxes: Whether ``training`` keeps images without boxes, as examples of
            background.
        boxes_of: The pixels that boxes are of, "stored" or "upright", in images with an EXIF
            orientation whose size does not tell; see :class:`AnnotatedImages`. Default (None): the
            stored ones, and the number of such images is logged.

    Attributes:
        category_ids: The dataset's own id of each class, for results in COCO's format.

    Raises:
        FileNotFoundError: The JSON file or an image does not exist.
        ValueError: The JSON file or an entry is malformed, refers to an unknown category or has an
            id twice, or nothing is left to learn from.
    """

    unread = "outlines, key points, ids of annotations, super-categories, licences and info"
    category_ids: tuple[int, ...]

    def __init__(
        self,
        images: str | Path,
        annotations: str | Path,
        *,
        training: bool = False,
        keep_images_without_boxes: bool = False,
        boxes_of: BoxesOf | None = None,
    ) -> None:
        file = Path(annotations)
        names, table = _read(Path(images), file)
        self.category_ids = tuple(names)
        if training:
            _warn_of_no_area(table.objects, file)
        super().__init__(
            list(names.values()),
            table,
            source=file,
            training=training,
            keep_images_without_boxes=keep_images_without_boxes,
            boxes_of=boxes_of,
        )


def _read(folder: Path, file: Path) -> tuple[dict[int, str], ImageTable]:
    """The names of the categories by their ids, which are in order, and the images."""
    content = _load(file)
    try:
        names = {id_: _name(entry, id_) for id_, entry in _by_id(content, "categories").items()}
        names = dict(sorted(names.items()))
        listed = [_image(id_, entry) for id_, entry in _by_id(content, "images").items()]
        rows: _Rows = content["annotations"]
        labels, known = _places(np.array(list(names), np.int64), rows.ids[:, 1])
        wrong = ~(known & rows.sound())
        if wrong.any():
            _refuse(file, int(wrong.argmax()), tuple(names))
    except ValueError as error:
        raise ValueError(f"{file}: {error}. {FORMAT}") from error
    _warn_of_leftovers(rows.ids[:, 0], listed, file)
    kept = without_companions(listed, file, lambda image: within(image.name, folder))
    _check_files(folder, kept, file)
    return names, _table(folder, kept, rows, labels + 1)


def _warn_of_no_area(objects: Objects, file: Path) -> None:
    whole = replace(objects, area=torch.ones_like(objects.area)).can_be_learnt()
    left_out = objects.rows(whole & (objects.area <= 0))
    if len(left_out):
        log.warning(
            "%s: %d objects with a box have an area of 0 or less, and are left out of training. "
            "Where the box is right, take `area` out of their annotations: that of the box is "
            "taken then.",
            file,
            len(left_out),
        )


class _Image(NamedTuple):
    """What an entry of ``images`` says."""

    id: int
    name: str
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the entries of ``annotations`` say, a row each.

    Attributes:
        ids: The ids of the image and of the category, int64 (M, 2).
        numbers: The x, y, width and height of the box, the area and iscrowd, float64 (M, 6); NaN
            where an entry is not as it should be.
    """

    ids: NDArray[np.int64]
    numbers: NDArray[np.float64]

    @classmethod
    def of(cls, entries: Iterator[Any]) -> "_Rows":
        """Read the entries, which are in memory for a moment only, as they have outlines."""
        parts = [cls(np.zeros((0, 2), np.int64), np.zeros((0, 6)))]
        while block := list(islice(entries, _BLOCK)):
            parts.append(_usual_rows(block) or _unusual_rows(block))
        return cls(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.numbers for part in parts]),
        )

    def sound(self) -> NDArray[np.bool_]:
        """Which rows ``_row`` would let pass, by their numbers; bool (M,)."""
        within = (np.abs(self.numbers[:, :5]) < BOUND).all(axis=1)
        whole = (self.numbers[:, 2:4] >= 0).all(axis=1)
        crowd = np.isin(self.numbers[:, 5], (0, 1))
        return within & whole & crowd


def _usual_rows(entries: Sequence[Any]) -> _Rows | None:
    """The rows of entries that have all keys and plain numbers; None where one has not."""
    try:
        images, categories, boxes, areas, crowds = zip(*map(_USUAL, entries), strict=True)
    except (KeyError, TypeError):  # a key is missing, or an entry is no object
        return None
    if {*map(type, boxes)} != {list} or {*map(len, boxes)} != {4}:
        return None
    ids = [*images, *categories]
    numbers = [*chain.from_iterable(boxes), *areas, *crowds]
    if not ({*map(type, ids)} <= {int} and {*map(type, numbers)} <= {int, float}):
        return None
    try:
        table, count = np.array(numbers, np.float64), len(entries)
        columns = table[: 4 * count].reshape(count, 4), table[4 * count :].reshape(2, count).T
        return _Rows(np.array(ids, np.int64).reshape(2, count).T, np.hstack(columns))
    except OverflowError:
        return None


def _unusual_rows(entries: Sequence[Any]) -> _Rows:
    """The rows of any entries, NaN where one cannot be read."""
    ids, numbers = np.zeros((len(entries), 2), np.int64), np.full((len(entries), 6), np.nan)
    for number, entry in enumerate(entries):
        with suppress(ValueError):  # it is said when the images and the categories are known
            ids[number], numbers[number] = _row(entry, "")
    return _Rows(ids, numbers)


def _refuse(file: Path, number: int, category_ids: tuple[int, ...]) -> NoReturn:
    """Read the file once more, up to an annotation, and say what is wrong with it."""

    def one(entries: Iterator[Any]) -> Any:
        return next(islice(entries, number, None), None)

    entry = load_lists(file, dict.fromkeys(LISTS, one))["annotations"]
    place = f"annotations[{number}]"
    if isinstance(entry, dict):
        place += f" (id {shortened(entry.get('id'))})"
    _row(entry, place, category_ids)
    raise ValueError(f"{place} has changed while the file was read")


def _places(
    ids: NDArray[np.int64], wanted: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each wanted id stands among different ones, and whether it does; (M,) each."""
    if not len(ids):
        return np.zeros_like(wanted), np.zeros(len(wanted), np.bool_)
    order = np.argsort(ids)
    places = order[np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)]
    return places, ids[places] == wanted


def _table(
    folder: Path, images: Sequence[_Image], rows: _Rows, labels: NDArray[np.int64]
) -> ImageTable:
    """The images with their objects, those of each image in the order of the file."""
    ids = np.array([image.id for image in images], np.int64)
    places, listed = _places(ids, rows.ids[:, 0])
    order = np.flatnonzero(listed)[np.argsort(places[listed], kind="stable")]
    x, y, width, height, area, crowd = torch.from_numpy(rows.numbers[order]).unbind(dim=1)
    counts = np.bincount(places[listed], minlength=len(images))
    return ImageTable(
        folder,
        Texts.of(image.name for image in images),
        torch.from_numpy(ids),
        torch.tensor([image.size for image in images], dtype=torch.int64).reshape(-1, 2),
        torch.from_numpy(counts).cumsum(0),
        Objects(
            boxes=torch.stack([x, y, x + width, y + height], dim=1).float(),
            labels=torch.from_numpy(labels[order]),
            area=area.float(),
            iscrowd=crowd.long(),
        ),
    )


def _load(file: Path) -> dict[str, Any]:
    """The content of the JSON file, which has the three lists that detection needs."""
    voc = "; for XML files, one an image, use limbeck.data.VOC"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is not a file; expected annotations: a JSON file of instances, such as "
            f"annotations/instances_val2017.json. Give that{voc if file.is_dir() else ''}."
        )
    try:
        gather: dict[str, Gather] = {"images": list, "annotations": _Rows.of, "categories": list}
        content = load_lists(file, gather, unread="segmentation")
    except (ValueError, RecursionError) as error:  # no JSON, or not the encoding it claims
        raise ValueError(
            f"{file}: not a JSON file ({error}); expected UTF-8, and the whole of it: correct it, "
            f"or copy it again{voc if file.suffix == '.xml' else ''}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}, expected an object. {FORMAT}")
    if missing := [key for key in LISTS if not isinstance(content.get(key), list | _Rows)]:
        raise ValueError(
            f"{file} holds {shortened(list(content))}, expected the lists {list(LISTS)}; "
            f"{missing[0]!r} is none. {FORMAT}"
        )
    return content


def _by_id(content: dict[str, Any], what: str) -> dict[int, Mapping[str, Any]]:
    """Take the entries of ``images`` or ``categories`` out of the file's content, by their ids."""
    found: dict[int, Mapping[str, Any]] = {}
    for number, entry in enumerate(content.pop(what)):
        place = f"{what}[{number}]"
        id_ = _required(entry, "id", place)
        if not _is_id(id_):
            raise ValueError(f"{place} has the id {shortened(id_)}, expected an integer")
        if id_ in found:
            raise ValueError(f"{place} has the id {id_}, which another one has; expected it once")
        found[id_] = entry
    return found


def _required(entry: Any, key: str, place: str) -> Any:
    if not isinstance(entry, dict):
        raise ValueError(f"{place} is {shortened(entry)}, expected an object")
    if key not in entry:
        raise ValueError(f"{place} lacks the key {key!r}, it has {shortened(list(entry))}")
    return entry[key]


def _name(category: Mapping[str, Any], id_: int) -> str:
    name = _required(category, "name", f"the category {id_}")
    if not isinstance(name, str) or not name:
        raise ValueError(f"the category {id_} has the name {shortened(name)}, expected a text")
    return name


def _image(id_: int, entry: Mapping[str, Any]) -> _Image:
    place = f"the image {id_}"
    name, height, width = (_required(entry, key, place) for key in ("file_name", "height", "width"))
    if not isinstance(name, str) or not name:
        raise ValueError(f"{place} has the file_name {shortened(name)}, expected a text")
    if not (_is_number(height) and _is_number(width) and height >= 1 and width >= 1):
        raise ValueError(
            f"{place} has height and width {shortened((height, width))}, expected two numbers of "
            "pixels"
        )
    return _Image(id_, name, (int(height), int(width)))


def _row(
    entry: Any, place: str, category_ids: tuple[int, ...] | None = None
) -> tuple[tuple[int, int], tuple[float, ...]]:
    """The row of one annotation, as :class:`_Rows` has it, or an error that names its place.

    Where the categories are not known, their ids may be any.
    """
    image = _required(entry, "image_id", place)
    if not _is_id(image):
        raise ValueError(f"{place} has the image_id {shortened(image)}, expected an integer")
    category = _required(entry, "category_id", place)
    if not _is_id(category) or (category_ids is not None and category not in category_ids):
        raise ValueError(
            f"{place} has the category_id {shortened(category)}, which is not among the ids of the "
            f"categories, {shortened(list(category_ids or ()))}"
        )
    box = _required(entry, "bbox", place)
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        raise ValueError(
            f"{place} has the bbox {shortened(box)}, expected four finite numbers: x, y, width, "
            "height"
        )
    x, y, width, height = box
    area, crowd = entry.get("area"), entry.get("iscrowd", 0)
    area = width * height if area is None else area
    if width < 0 or height < 0:
        raise ValueError(f"{place} has the bbox {box}, expected a width and height of at least 0")
    if not _is_number(area):
        raise ValueError(f"{place} has the area {shortened(area)}, expected a finite number")
    if crowd not in (0, 1):
        raise ValueError(f"{place} has the iscrowd {shortened(crowd)}, expected 0 or 1")
    return (image, category), (x, y, width, height, area, crowd)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -BOUND < value < BOUND


def _is_id(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _warn_of_leftovers(ids: NDArray[np.int64], images: Sequence[_Image], file: Path) -> None:
    """Log annotations of images that are not listed, as a file may have that was cut down."""
    leftover = ids[~_places(np.array([image.id for image in images], np.int64), ids)[1]]
    if len(leftover):
        log.warning(
            "%s: %d annotations are of images that it does not list, such as image_id %d; they "
            "are left out",
            file,
            len(leftover),
            leftover[0],
        )


def _check_files(folder: Path, images: Sequence[_Image], file: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder; expected the folder of the images of {file}. Give that."
        )
    with os.scandir(folder) as entries:  # one listing is far quicker than a look at every file
        present = {entry.name for entry in entries}
    named = (image.name for image in images)
    missing = [name for name in named if name not in present and not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(images)} images of {file} are not in {folder}, the first "
            f"is {PurePath(missing[0]).name}; give the folder of this split, or a file without them"
        )
