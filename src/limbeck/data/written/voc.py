"""VOC's layout: an XML file for each image, the images in one folder, and lists of the splits."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.data.table import AnnotatedImage, Objects
from limbeck.data.voc import SIDES, usual_classes
from limbeck.data.written.part import (
    ORIENTATION,
    Kept,
    Part,
    Target,
    shortest,
    without_areas,
    without_attributes,
)

SOURCES = "labels.json"  # where annotations are from, beside layouts that have no place for it
_LEAST = 1.0  # pixels: inclusive corners of less would be the wrong way round


class VOCTarget(Target):
    """``Annotations``, ``JPEGImages`` and ``ImageSets/Main``, as in the devkit.

    Corners count from 1 and are inclusive. Fractions of a pixel are written as decimals, as VOC2011
    has some, too. Crowds become difficult objects, which VOC's evaluator ignores as well.
    """

    name = "voc"
    tolerance = 1e-9  # of what is lost of a coordinate by adding the 1 from which they count

    def images(self, folder: Path, split: str) -> Path:
        """``JPEGImages``, for all splits."""
        return folder / "JPEGImages"

    def kept(self, part: Part) -> Kept:
        """Boxes of a pixel or more, without areas of their own and most attributes."""
        before = part.images.objects
        objects, areas = without_areas(before)
        objects, others = without_attributes(objects, "truncation", "occlusion")
        others.pop("difficult", None)
        lost = {f"have {name}, which XML files have no place for": n for name, n in others.items()}
        for name in ("truncation", "occlusion"):
            column = objects.attributes.get(name)
            if column is not None:
                degrees = int(((column > 0) & (column != 1)).sum())
                lost[f"have a degree of {name}, of which a yes is left"] = degrees
        crowds = before.iscrowd != 0
        difficult = before.attributes.get("difficult", torch.zeros_like(crowds)) | crowds
        objects = replace(
            objects,
            iscrowd=torch.zeros_like(before.iscrowd),
            attributes={**objects.attributes, "difficult": difficult},
        )
        sides = before.boxes[:, 2:].double() - before.boxes[:, :2].double()
        large = (sides >= _LEAST).all(dim=1)
        return Kept(
            part.with_objects(objects, large),
            {
                "are crowds or ignored, which become difficult": int(crowds.sum()),
                "have an area of their own, in the place of which comes that of the box": areas,
                "have a side of less than a pixel, and are left out": int((~large).sum()),
                **lost,
            },
        )

    def write(self, folder: Path, parts: Mapping[str, Part], info: Mapping[str, Any]) -> None:
        """Write the XML files and the lists."""
        annotations, lists = folder / "Annotations", folder / "ImageSets" / "Main"
        annotations.mkdir()
        lists.mkdir(parents=True)
        if info:
            text = json.dumps(info, indent=2, ensure_ascii=False)
            (folder / SOURCES).write_text(f"{text}\n", encoding="utf-8")
        for part in parts.values():
            stems = []
            for image in part.images:
                stems.append(image.path.stem)
                tree = _tree(image, part.classes)
                tree.write(annotations / f"{image.path.stem}.xml", encoding="utf-8")
            lines = "".join(f"{stem}\n" for stem in stems)
            (lists / f"{part.name}.txt").write_text(lines, encoding="utf-8")

    def stated(self, folder: Path, part: Part, *, upright: bool) -> dict[str, Any]:
        """``limbeck.data.VOC``, with the order of the classes, which XML files do not have."""
        arguments = {"root": str(folder), "split": part.name, "classes": list(part.classes)}
        turned = {"boxes_of": "upright"} if upright else {}
        return {"class_path": "limbeck.data.VOC", "init_args": arguments | turned}

    def unsaid(self, parts: Sequence[Part], *, upright: bool) -> list[str]:
        """The order of the classes, which are found in the XML files unless they are stated."""
        classes = parts[0].classes
        labels = {label for part in parts for label in part.images.objects.labels.tolist()}
        order = [
            "XML files say neither the order of the classes nor those without objects: state "
            "classes, as below."
        ]
        same = classes == usual_classes({classes[label - 1] for label in labels})
        return [*([] if same else order), *([ORIENTATION] if upright else [])]


def _tree(image: AnnotatedImage, classes: Sequence[str]) -> "ElementTree.ElementTree[Any]":
    root = ElementTree.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", image.path.name)
    height, width = image.size or (0, 0)
    size = ElementTree.SubElement(root, "size")
    for key, pixels in (("width", width), ("height", height), ("depth", 3)):
        _add(size, key, pixels)
    _add(root, "segmented", 0)
    objects = image.objects
    marks = {
        "truncated": objects.attributes.get("truncation"),
        "occluded": objects.attributes.get("occlusion"),
        "difficult": objects.attributes["difficult"],
    }
    for number, corners in enumerate(_corners(objects)):
        element = ElementTree.SubElement(root, "object")
        _add(element, "name", classes[int(objects.labels[number]) - 1])
        for key, column in marks.items():
            if column is not None:
                _add(element, key, int(column[number] > 0))
        box = ElementTree.SubElement(element, "bndbox")
        for side, value in zip(SIDES, corners, strict=True):
            _add(box, side, value)
    ElementTree.indent(root)
    return ElementTree.ElementTree(root)


def _add(parent: ElementTree.Element, key: str, value: object) -> None:
    ElementTree.SubElement(parent, key).text = str(value)


def _corners(objects: Objects) -> list[list[str]]:
    """The inclusive corners from 1, in the fewest digits that are read as the same float32."""
    boxes = objects.boxes.numpy().astype(np.float64)
    columns = [
        shortest(column + shift, partial(_is_read_as, column, shift))
        for column, shift in zip(boxes.T, (1.0, 1.0, 0.0, 0.0), strict=True)
    ]
    return [[_text(value) for value in row] for row in zip(*columns, strict=True)]


def _is_read_as(
    side: NDArray[np.float64], shift: float, written: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether a side comes back in float32 from what is written."""
    same: NDArray[np.bool_] = (written - shift).astype(np.float32) == side
    return same


def _text(value: float) -> str:
    """A whole number without a point, which some readers insist on."""
    return str(int(value)) if value == int(value) else repr(float(value))
