"""Detection datasets in the layout of COCO: one JSON file of instances and one folder of images."""

import json
import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import torch

from limbeck.data.annotated import BOUND, AnnotatedImage, AnnotatedImages, Objects
from limbeck.data.files import without_companions
from limbeck.data.orientation import Frame

log = logging.getLogger(__name__)

LISTS = ("images", "annotations", "categories")
FORMAT = "Correct it; COCO's format is described at https://cocodataset.org/#format-data"


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

    category_ids: tuple[int, ...]

    def __init__(
        self,
        images: str | Path,
        annotations: str | Path,
        *,
        training: bool = False,
        keep_images_without_boxes: bool = False,
        boxes_of: Frame | None = None,
    ) -> None:
        folder, file = Path(images), Path(annotations)
        content = _load(file)
        try:
            names = {id_: _name(entry, id_) for id_, entry in _by_id(content, "categories").items()}
            self.category_ids = tuple(sorted(names))
            entries = _by_id(content, "images")
            objects = _objects_by_image(content["annotations"], self.category_ids)
            listed = [_record(id_, entry, folder, objects) for id_, entry in entries.items()]
            _warn_of_leftovers(objects, entries, file)
        except ValueError as error:
            raise ValueError(f"{file}: {error}. {FORMAT}") from error
        records = without_companions(listed, file, lambda record: _within(record.path, folder))
        _check_files(folder, records, file)
        super().__init__(
            [names[i] for i in self.category_ids],
            records,
            source=file,
            training=training,
            keep_images_without_boxes=keep_images_without_boxes,
            boxes_of=boxes_of,
        )


def _load(file: Path) -> dict[str, list[Any]]:
    """The content of the JSON file, which has the three lists that detection needs."""
    voc = "; for XML files, one an image, use limbeck.data.VOC"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is not a file; expected annotations: a JSON file of instances, such as "
            f"annotations/instances_val2017.json. Give that{voc if file.is_dir() else ''}."
        )
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:  # no JSON, or not the encoding it claims
        raise ValueError(
            f"{file}: not a JSON file ({error}); expected UTF-8, and the whole of it: correct it, "
            f"or copy it again{voc if file.suffix == '.xml' else ''}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}, expected an object. {FORMAT}")
    if missing := [key for key in LISTS if not isinstance(content.get(key), list)]:
        raise ValueError(
            f"{file} holds {shortened(list(content))}, expected the lists {list(LISTS)}; "
            f"{missing[0]!r} is none. {FORMAT}"
        )
    return content


def _by_id(content: Mapping[str, list[Any]], what: str) -> dict[int, Mapping[str, Any]]:
    """The entries of ``images`` or ``categories`` by their ids."""
    found: dict[int, Mapping[str, Any]] = {}
    for number, entry in enumerate(content[what]):
        place = f"{what}[{number}]"
        id_ = _required(entry, "id", place)
        if type(id_) is not int or not -(2**63) <= id_ < 2**63:
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


def _objects_by_image(annotations: list[Any], category_ids: tuple[int, ...]) -> dict[int, Objects]:
    labels = {category: label for label, category in enumerate(category_ids, start=1)}
    rows = defaultdict[int, list[tuple[float, ...]]](list)
    for number, entry in enumerate(annotations):
        place = f"annotations[{number}]"
        if isinstance(entry, dict):
            place += f" (id {shortened(entry.get('id'))})"
        image = _required(entry, "image_id", place)
        if type(image) is not int:
            raise ValueError(f"{place} has the image_id {shortened(image)}, expected an integer")
        category = _required(entry, "category_id", place)
        if type(category) is not int or category not in labels:
            raise ValueError(
                f"{place} has the category_id {shortened(category)}, which is not among the ids "
                f"of the categories, {shortened(sorted(labels))}"
            )
        label = labels[category]
        rows[image].append(_row(entry, label, place))
    return {image: _objects(of_image) for image, of_image in rows.items()}


def _warn_of_leftovers(
    objects: Mapping[int, Objects], images: Mapping[int, Any], file: Path
) -> None:
    """Log annotations of images that are not listed, as a file may have that was cut down."""
    leftover = [image for image in objects if image not in images]
    if leftover:
        log.warning(
            "%s: %d annotations are of images that it does not list, such as image_id %d; they "
            "are left out",
            file,
            sum(len(objects[image]) for image in leftover),
            leftover[0],
        )


def _row(entry: Mapping[str, Any], label: int, place: str) -> tuple[float, ...]:
    """The x1, y1, x2, y2, label, area and iscrowd of one annotation."""
    box = _required(entry, "bbox", place)
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        raise ValueError(
            f"{place} has the bbox {shortened(box)}, expected four finite numbers: x, y, width, "
            "height"
        )
    x, y, width, height = box
    area, crowd = entry.get("area", width * height), entry.get("iscrowd", 0)
    if width < 0 or height < 0:
        raise ValueError(f"{place} has the bbox {box}, expected a width and height of at least 0")
    if not _is_number(area):
        raise ValueError(f"{place} has the area {shortened(area)}, expected a finite number")
    if crowd not in (0, 1):
        raise ValueError(f"{place} has the iscrowd {shortened(crowd)}, expected 0 or 1")
    return x, y, x + width, y + height, label, area, crowd


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -BOUND < value < BOUND


def _objects(rows: list[tuple[float, ...]]) -> Objects:
    """The objects of rows of x1, y1, x2, y2, label, area and iscrowd."""
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 7)
    return Objects(
        boxes=table[:, :4].float(),
        labels=table[:, 4].long(),
        area=table[:, 5].float(),
        iscrowd=table[:, 6].long(),
    )


def _record(
    id_: int, image: Mapping[str, Any], folder: Path, objects: dict[int, Objects]
) -> AnnotatedImage:
    place = f"the image {id_}"
    name, height, width = (_required(image, key, place) for key in ("file_name", "height", "width"))
    if not isinstance(name, str) or not name:
        raise ValueError(f"{place} has the file_name {shortened(name)}, expected a text")
    if not (_is_number(height) and _is_number(width) and height >= 1 and width >= 1):
        raise ValueError(
            f"{place} has height and width {shortened((height, width))}, expected two numbers of "
            "pixels"
        )
    return AnnotatedImage(
        path=folder / name,
        image_id=id_,
        size=(int(height), int(width)),
        objects=objects.get(id_, _objects([])),
    )


def _within(path: Path, folder: Path) -> str:
    """The part of a path that lies in a folder; an image may also be elsewhere."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name


def _check_files(folder: Path, records: list[AnnotatedImage], file: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder; expected the folder of the images of {file}. Give that."
        )
    present = set(folder.iterdir())  # one listing is far quicker than a look at every file
    missing = [r.path for r in records if r.path not in present and not r.path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(records)} images of {file} are not in {folder}, the first "
            f"is {missing[0].name}; give the folder of this split, or a file without them"
        )
