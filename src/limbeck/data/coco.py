"""Detection datasets in the layout of COCO: one JSON file of instances, one folder of images."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from limbeck.data.annotated import AnnotatedImage, AnnotatedImages, Objects

LISTS = {"images", "annotations", "categories"}
FORMAT = "COCO's format is described at https://cocodataset.org/#format-data"


class COCO(AnnotatedImages):
    """A dataset in the layout of COCO (https://cocodataset.org/#format-data, object detection).

    Category ids become labels 1 to K in the order of the ids, whatever gaps the ids have. With
    ``training`` crowds, boxes with a side under one pixel and objects without area are left out,
    and images that then have no box. Without it every image and object stays: an evaluator counts
    on them, and ignores what falls on crowds.

    Args:
        images: folder of the image files.
        annotations: the JSON file with ``images``, ``annotations`` and ``categories``. An
            annotation without ``iscrowd`` is no crowd; one without ``area`` has its box's.
        training: leave out what cannot be learnt from.
        keep_images_without_boxes: with ``training``, keep such images as examples of background.

    Attributes:
        category_ids: the dataset's own id of each class, for results in COCO's format.

    Raises:
        FileNotFoundError: the JSON file or an image does not exist.
        ValueError: the JSON file is malformed, lacks a key, or names an unknown category.
    """

    def __init__(
        self,
        images: str | Path,
        annotations: str | Path,
        *,
        training: bool = False,
        keep_images_without_boxes: bool = False,
    ) -> None:
        folder, file = Path(images), Path(annotations)
        content = _load(file)
        try:
            names = {category["id"]: category["name"] for category in content["categories"]}
            self.category_ids = tuple(sorted(names))
            objects = _objects_by_image(content["annotations"], self.category_ids, training)
            records = [_record(image, folder, objects) for image in content["images"]]
        except KeyError as error:
            raise ValueError(f"{file}: an entry lacks the key {error}. {FORMAT}") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file}: {error}. {FORMAT}") from error
        _check_files(folder, records, file)
        if training and not keep_images_without_boxes:
            records = [record for record in records if len(record.objects)]
        super().__init__([names[i] for i in self.category_ids], records)


def _load(file: Path) -> dict[str, list[dict[str, Any]]]:
    """The JSON file as it stands, with the three lists that detection needs."""
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist; give a JSON file of instances, such as "
            "annotations/instances_val2017.json"
        )
    try:
        content = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: not a JSON file ({error})") from error
    if not isinstance(content, dict) or not content.keys() >= LISTS:
        found = list(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{file} holds {found}, expected at least {sorted(LISTS)}. {FORMAT}")
    return content


def _objects_by_image(
    annotations: Iterable[Mapping[str, Any]], category_ids: tuple[int, ...], training: bool
) -> dict[int, Objects]:
    labels = {category: label for label, category in enumerate(category_ids, start=1)}
    rows = defaultdict[int, list[tuple[float, ...]]](list)
    for annotation in annotations:
        x, y, width, height = annotation["bbox"]
        area = annotation.get("area", width * height)
        crowd = annotation.get("iscrowd", 0)
        if annotation["category_id"] not in labels:
            raise ValueError(
                f"annotation {annotation.get('id')} has category_id {annotation['category_id']}, "
                f"which is not among the categories {list(category_ids)}"
            )
        if training and (crowd or width < 1 or height < 1 or area <= 0):
            continue
        label = labels[annotation["category_id"]]
        rows[annotation["image_id"]].append((x, y, x + width, y + height, label, area, crowd))
    return {image: _objects(of_image) for image, of_image in rows.items()}


def _objects(rows: list[tuple[float, ...]]) -> Objects:
    """Rows of x1, y1, x2, y2, label, area, iscrowd."""
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 7)
    return Objects(
        boxes=table[:, :4].float(),
        labels=table[:, 4].long(),
        area=table[:, 5].float(),
        iscrowd=table[:, 6].long(),
    )


def _record(image: Mapping[str, Any], folder: Path, objects: dict[int, Objects]) -> AnnotatedImage:
    return AnnotatedImage(
        path=folder / image["file_name"],
        image_id=image["id"],
        size=(image["height"], image["width"]),
        objects=objects.get(image["id"], _objects([])),
    )


def _check_files(folder: Path, records: list[AnnotatedImage], file: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; give the images of {file}")
    present = set(folder.iterdir())  # one listing is far quicker than a look at every file
    missing = [r.path for r in records if r.path not in present and not r.path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(records)} images of {file} are not in {folder}, the first "
            f"is {missing[0].name}; give the folder of this split, or a file without them"
        )
