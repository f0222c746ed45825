"""Tiny folders of data in every layout, of one square in each image."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageDraw

from limbeck.commands.starting.commented import plain
from limbeck.commands.starting.named_model import Model

SIZE = (96, 64)  # width and height
SIDES = [64, 96]
NAMES = ("red", "blue")


def draw(path: Path, number: int) -> tuple[int, int, int, int]:
    """Draw the square of an image, whose box is given back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    left, top, side = 4 + 7 * (number % 6), 4 + 3 * (number % 5), 20 + 2 * (number % 8)
    image = PIL.Image.new("RGB", SIZE, "grey")
    box = (left, top, left + side, top + side)
    PIL.ImageDraw.Draw(image).rectangle(box, NAMES[number % 2])
    image.save(path)
    return box


def coco(root: Path) -> None:
    for split, count in (("train", 8), ("val", 4)):
        images, annotations = [], []
        for number in range(count):
            x1, y1, x2, y2 = draw(root / split / f"{number}.jpg", number)
            images.append(
                {"id": number, "file_name": f"{number}.jpg", "width": SIZE[0], "height": SIZE[1]}
            )
            bbox = [x1, y1, x2 - x1, y2 - y1]
            annotations.append(
                {
                    "id": number + 1,
                    "image_id": number,
                    "category_id": number % 2 + 1,
                    "bbox": bbox,
                    "area": bbox[2] * bbox[3],
                    "iscrowd": 0,
                }
            )
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(NAMES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        file = root / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))


def voc(root: Path) -> None:
    """Without lists, so that a share of the images is held out."""
    (root / "annots").mkdir(parents=True)
    for number in range(12):
        box = draw(root / "images" / f"{number}.jpg", number)
        sides = "".join(
            f"<{name}>{side}</{name}>"
            for name, side in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        thing = f"<object><name>{NAMES[number % 2]}</name><bndbox>{sides}</bndbox></object>"
        size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>"
        text = f"<annotation><filename>{number}.jpg</filename>{size}{thing}</annotation>"
        (root / "annots" / f"{number}.xml").write_text(text)


def yolo(root: Path, splits: tuple[str, ...] = ("train", "val", "test")) -> None:
    for split in splits:
        for number in range(8 if split == "train" else 4):
            x1, y1, x2, y2 = draw(root / split / "images" / f"{number}.jpg", number)
            width, height = SIZE
            sides = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width)
            label = root / split / "labels" / f"{number}.txt"
            label.parent.mkdir(exist_ok=True)
            label.write_text(" ".join(map(str, (number % 2, *sides, (y2 - y1) / height))))
    lines = [f"{split}: {split}/images" for split in splits]
    (root / "data.yaml").write_text("\n".join([*lines, f"names: {json.dumps(NAMES)}"]))


def kitti(root: Path) -> None:
    labels = root / "training" / "label_2"
    labels.mkdir(parents=True)
    for number in range(10):
        box = draw(root / "training" / "image_2" / f"{number:06}.png", number)
        sides = " ".join(f"{side:.2f}" for side in box)
        kind = ("Car", "Pedestrian", "Cyclist")[number % 3]
        text = f"{kind} 0.00 0 0.00 {sides} 1.5 1.5 3.0 0.0 0.0 10.0 0.0\n"
        (labels / f"{number:06}.txt").write_text(text)
    (root / "ImageSets").mkdir()
    for split, numbers in (("train", range(7)), ("val", range(7, 10))):
        stems = "".join(f"{number:06}\n" for number in numbers)
        (root / "ImageSets" / f"{split}.txt").write_text(stems)


def wider_face(root: Path) -> None:
    (root / "wider_face_split").mkdir(parents=True)
    for split, count in (("train", 8), ("val", 4)):
        lines = []
        for number in range(count):
            name = f"0--Parade/{number}.jpg"
            x1, y1, x2, y2 = draw(root / f"WIDER_{split}" / "images" / name, number)
            lines += [name, "1", f"{x1} {y1} {x2 - x1} {y2 - y1} 0 0 0 0 0 0"]
        file = root / "wider_face_split" / f"wider_face_{split}_bbx_gt.txt"
        file.write_text("\n".join(lines) + "\n")


def image_folder(root: Path) -> None:
    """Without splits."""
    for number in range(20):
        draw(root / NAMES[number % 2] / f"{number}.jpg", number)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "COCO": coco,
    "VOC": voc,
    "YOLO": yolo,
    "KITTI": kitti,
    "WIDER FACE": wider_face,
    "ImageFolder": image_folder,
}


def weights(model: Model) -> Any:
    return plain(dict(model.arguments)).get("weights")
