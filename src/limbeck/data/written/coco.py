"""COCO's layout: a JSON file of instances for each split, and a folder of its images."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from limbeck.data.table import Objects
from limbeck.data.written.part import ORIENTATION, Kept, Part, Target, shortest, without_attributes
from limbeck.names import file_names

DESCRIPTION = "Written by limbeck"


class COCOTarget(Target):
    """``annotations/instances_<split>.json``, and the images in ``<split>``.

    Crowds, areas and fractions of a pixel are kept. What else a dataset says of an object becomes a
    key of its annotation, which limbeck does not read.
    """

    name = "coco"

    def images(self, folder: Path, split: str) -> Path:
        """``<split>``."""
        return folder / split

    def kept(self, part: Part) -> Kept:
        """Everything but what is not COCO's."""
        _, unknown = without_attributes(part.images.objects)
        lost = {
            f"have {name}, which becomes a key that COCO does not know": n
            for name, n in unknown.items()
        }
        return Kept(part, lost)

    def write(self, folder: Path, parts: Mapping[str, Part], info: Mapping[str, Any]) -> None:
        """Write the JSON files."""
        inside = folder / "annotations"
        inside.mkdir()
        for part in parts.values():
            with (inside / _file(part.name)).open("w", encoding="utf-8") as file:
                _write(file, part, info)

    def stated(self, folder: Path, part: Part, *, upright: bool) -> dict[str, Any]:
        """``limbeck.data.COCO``, with its two paths."""
        file = folder / "annotations" / _file(part.name)
        arguments = {"images": str(self.images(folder, part.name)), "annotations": str(file)}
        turned = {"boxes_of": "upright"} if upright else {}
        return {"class_path": "limbeck.data.COCO", "init_args": arguments | turned}

    def unsaid(self, parts: Sequence[Part], *, upright: bool) -> list[str]:
        """Which way up boxes are, where that is open."""
        return [ORIENTATION] if upright else []


def _file(split: str) -> str:
    return file_names({split: f"instances_{split}.json"})[split]


def _write(file: TextIO, part: Part, info: Mapping[str, Any]) -> None:
    """Write one entry a line, as all of them at once would take much memory."""
    categories = [
        {"id": id_, "name": name} for id_, name in zip(part.category_ids, part.classes, strict=True)
    ]
    head = {"description": DESCRIPTION, **info}
    file.write(f'{{\n"info": {json.dumps(head)},\n"categories": {json.dumps(categories)}')
    for key, entries in (("images", _images(part)), ("annotations", _annotations(part))):
        file.write(f',\n"{key}": [')
        for number, entry in enumerate(entries):
            file.write(f"{',' if number else ''}\n{json.dumps(entry)}")
        file.write("\n]")
    file.write("\n}\n")


def _images(part: Part) -> Iterator[dict[str, Any]]:
    table = part.images
    rows = zip(table.image_ids.tolist(), table.names, table.sizes.tolist(), strict=True)
    for id_, name, (height, width) in rows:
        yield {"id": id_, "file_name": name, "height": height, "width": width}


def _annotations(part: Part) -> Iterator[dict[str, Any]]:
    table, objects = part.images, part.images.objects
    owners = table.image_ids.repeat_interleave(table.counts()).tolist()
    areas = [float(str(area)) for area in objects.area.numpy()]  # the shortest of a float32
    attributes = {name: column.tolist() for name, column in objects.attributes.items()}
    rows = zip(
        owners,
        objects.labels.tolist(),
        _boxes(objects),
        areas,
        objects.iscrowd.tolist(),
        strict=True,
    )
    for number, (owner, label, box, area, crowd) in enumerate(rows):
        yield {
            **{name: column[number] for name, column in attributes.items()},
            "id": number + 1,  # COCO's evaluator takes 0 for no match
            "image_id": owner,
            "category_id": part.category_ids[label - 1],
            "bbox": box,
            "area": area,
            "iscrowd": crowd,
        }


def _boxes(objects: Objects) -> list[list[float]]:
    """Each x, y, width and height, in few digits that are read as the same float32 corners."""
    x1, y1, x2, y2 = objects.boxes.numpy().astype(np.float64).T
    x, y = (shortest(start, partial(_is_read_as, start, 0.0)) for start in (x1, y1))
    width, height = (
        shortest(end - start, partial(_is_read_as, end, start)) for start, end in ((x, x2), (y, y2))
    )
    return [[_plain(value) for value in row] for row in zip(x, y, width, height, strict=True)]


def _is_read_as(
    corner: NDArray[np.float64], start: NDArray[np.float64] | float, side: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether a corner comes back in float32 from where a box starts and its side."""
    same: NDArray[np.bool_] = (start + side).astype(np.float32) == corner
    return same


def _plain(value: float) -> float:
    """A whole number without its decimals, as annotation tools write it."""
    return int(value) if value == int(value) else float(value)
