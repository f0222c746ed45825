"""YOLO's layout: a data.yaml, the images, and a text file of labels for each of them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from limbeck.data.table import ImageTable
from limbeck.data.written.part import Kept, Part, Target, without_areas, without_attributes
from limbeck.data.written.voc import SOURCES
from limbeck.data.yolo import DESCRIPTION, SPLITS

_DIGITS = 9  # behind the point, with which sides come back to 1e-5 px in images of 10,000 px


class YOLOTarget(Target):
    """``data.yaml``, ``images/<split>`` and ``labels/<split>``, as Ultralytics has it.

    Boxes are shares of the image, and lie within it.
    """

    name = "yolo"
    tolerance = 1e-3

    def images(self, folder: Path, split: str) -> Path:
        """``images/<split>``."""
        return folder / "images" / split

    def kept(self, part: Part) -> Kept:
        """Boxes within their images, each once, that are no crowds and have no attributes."""
        before = part.images.objects
        objects = replace(before, boxes=before.within(part.images.sizes_of_objects()))
        _, areas = without_areas(before)
        objects, _ = without_areas(objects)
        objects, others = without_attributes(objects)
        reaching = ((objects.boxes - before.boxes).abs() > self.tolerance).any(dim=1)
        outside = (objects.boxes[:, 2:] <= objects.boxes[:, :2]).any(dim=1) & reaching
        crowds = before.iscrowd != 0
        known = ~outside & ~crowds
        once = _first_of_each(part.with_objects(objects), known)
        return Kept(
            part.with_objects(objects, once),
            {
                "are crowds or ignored, and are left out": int(crowds.sum()),
                "have an area of their own, in the place of which comes that of the box": areas,
                "reach beyond their images, and are clipped": int((reaching & ~outside).sum()),
                "lie outside of their images, and are left out": int((outside & ~crowds).sum()),
                "are there several times, and come once": int((known & ~once).sum()),
                **{
                    f"have {name}, which text files have no place for": n
                    for name, n in others.items()
                },
            },
        )

    def write(self, folder: Path, parts: Mapping[str, Part], info: Mapping[str, Any]) -> None:
        """Write data.yaml and the text files."""
        classes = list(next(iter(parts.values())).classes)
        stated: dict[str, Any] = {name: f"images/{name}" for name in parts}
        text = yaml.safe_dump(
            {**stated, "nc": len(classes), "names": classes}, sort_keys=False, allow_unicode=True
        )
        (folder / DESCRIPTION).write_text(text, encoding="utf-8")
        if info:
            said = json.dumps(info, indent=2, ensure_ascii=False)
            (folder / SOURCES).write_text(f"{said}\n", encoding="utf-8")
        for part in parts.values():
            labels = folder / "labels" / part.name
            labels.mkdir(parents=True)
            lines, start = _lines(part.images), 0
            for name, end in zip(part.images.names, part.images.ends.tolist(), strict=True):
                file = labels / Path(name).with_suffix(".txt")
                file.write_text("".join(lines[start:end]), encoding="utf-8")
                start = end

    def stated(self, folder: Path, part: Part, *, upright: bool) -> dict[str, Any]:
        """``limbeck.data.YOLO``, which sees every picture upright."""
        arguments = {"root": str(folder), "split": part.name}
        return {"class_path": "limbeck.data.YOLO", "init_args": arguments}


def refuse_splits(names: list[str]) -> None:
    """Refuse splits that YOLO's layout has no name for.

    Args:
        names: The names of the splits.

    Raises:
        ValueError: One of them is none of train, val and test.
    """
    other = [name for name in names if name not in SPLITS]
    if other:
        raise ValueError(
            f"the splits are {', '.join(names)}; YOLO's layout has {', '.join(SPLITS)}. Give a "
            "recipe whose data.train and data.val are the two that you mean."
        )


def _first_of_each(part: Part, kept: Tensor) -> Tensor:
    """Which objects stay when a line that comes twice in a file counts once; bool (M,)."""
    table = part.images
    owners = torch.arange(len(table)).repeat_interleave(table.counts()).tolist()
    seen: set[tuple[int, str]] = set()
    found = []
    for *key, stays in zip(owners, _lines(table), kept.tolist(), strict=True):
        line = (key[0], key[1])
        found.append(stays and line not in seen)
        if stays:
            seen.add(line)
    return torch.tensor(found, dtype=torch.bool)


def _lines(table: ImageTable) -> list[str]:
    """The line of each object."""
    sides = table.sizes_of_objects().flip(1).tile(2)  # width, height, width, height
    boxes = table.objects.boxes.double() / sides
    centres, extents = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    shares = torch.cat([centres, extents], dim=1).tolist()
    return [
        f"{label - 1} {' '.join(f'{share:.{_DIGITS}f}' for share in row)}\n"
        for label, row in zip(table.objects.labels.tolist(), shares, strict=True)
    ]
