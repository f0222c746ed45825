"""Recipes that train in a second, and small files of every kind that limbeck reads."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from scipy.io import savemat

Recipe = dict[str, Any]
CLASSES = ("blue", "green", "red")
SIZE = 64


def detector(**changes: Any) -> Recipe:
    """A RetinaNet of 20,000 parameters on two strides."""
    arguments = {
        "backbone": {"depths": [1, 1, 1], "widths": [8, 8, 16]},
        "num_classes": 3,
        "levels": [3, 4],
        "fpn_channels": 16,
        "head_depth": 1,
        "anchor_sizes": [[14, 20], [28, 40]],
        "aspect_ratios": [1.0],
        "norm": "trained",
        "min_size": SIZE,
        "max_size": SIZE,
        "topk_candidates": 50,
        "detections_per_image": 10,
        "score_threshold": 0.0,
    }
    return {"class_path": "limbeck.models.RetinaNet", "init_args": arguments | changes}


def network(classes: int = 3) -> Recipe:
    """A classifier of a few thousand parameters."""
    arguments = {"network": {"depths": [1, 1, 1], "widths": [8, 8, 16]}, "num_classes": classes}
    return {"class_path": "limbeck.models.Classifier", "init_args": arguments}


def dataset(kind: str, **arguments: Any) -> Recipe:
    """One of limbeck's own."""
    return {"class_path": f"limbeck.data.{kind}", "init_args": arguments}


def trainer(**changes: Any) -> Recipe:
    """On the CPU, without a bar, with a callback that says how far it came."""
    steps = {"class_path": "campaign.marks.Steps"}
    usual = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}
    return usual | {"callbacks": [steps]} | changes


def recipe(train: Recipe, val: Recipe, student: Recipe | None = None, **changes: Any) -> Recipe:
    """A run of a detector on a training and a validation set."""
    return {
        "model": {"student": student or detector(), "optimizer": {"lr": 2.0e-3}},
        "data": {"train": train, "val": val, "batch_size": 4, "workers": 0},
        "trainer": trainer(**changes),
    }


def shapes(count: int, seed: int, task: str = "detection") -> Recipe:
    """Generated images, of five classes."""
    return dataset("Shapes", task=task, count=count, size=SIZE, seed=seed)


def generated(**changes: Any) -> Recipe:
    """A detector on generated images."""
    return recipe(shapes(16, 1), shapes(4, 0), detector(num_classes=5), **changes)


def classified(**changes: Any) -> Recipe:
    """A classifier on generated images."""
    train, val = shapes(16, 1, "classification"), shapes(4, 0, "classification")
    made = recipe(train, val, network(5), **changes)
    size = {"size": 48, "scale": [0.5, 1.0]}
    made["data"]["augmentation"] = dataset("ClassificationAugmentation", **size)
    return made


def write_recipe(path: Path, stated: Recipe) -> Path:
    """As a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.dump(stated, Dumper=_Plain))
    return path


class _Plain(yaml.SafeDumper):
    """Without aliases: what occurs twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        """Everything."""
        return True


# -- datasets of four images in every layout -------------------------------------------------------


def picture(path: Path, seed: int) -> tuple[int, int, int, int]:
    """A grey picture with one coloured rectangle, whose corners are returned."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 130, (SIZE, SIZE, 3), dtype=np.uint8)
    x, y = (int(side) for side in rng.integers(4, 30, 2))
    pixels[y : y + 24, x : x + 20] = np.eye(3, dtype=np.uint8)[seed % 3] * 200
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return x, y, x + 20, y + 24


def coco(root: Path, count: int = 4, categories: tuple[str, ...] = CLASSES) -> Recipe:
    """In COCO's layout."""
    images, annotations = [], []
    for i in range(count):
        x1, y1, x2, y2 = picture(root / "images" / f"{i:04}.png", i)
        images.append({"id": i, "file_name": f"{i:04}.png", "width": SIZE, "height": SIZE})
        box, label = [x1, y1, x2 - x1, y2 - y1], i % len(categories) + 1
        annotations.append(
            {"id": i, "image_id": i, "category_id": label, "bbox": box, "iscrowd": 0}
        )
    names = [{"id": i + 1, "name": name} for i, name in enumerate(categories)]
    whole = {"images": images, "annotations": annotations, "categories": names}
    (root / "ann.json").write_text(json.dumps(whole))
    return dataset("COCO", images=str(root / "images"), annotations=str(root / "ann.json"))


def voc(root: Path, count: int = 4) -> Recipe:
    """In PASCAL VOC's."""
    for i in range(count):
        x1, y1, x2, y2 = picture(root / "JPEGImages" / f"{i:04}.jpg", i)
        box = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        named = f"<object><name>{CLASSES[i % 3]}</name><difficult>0</difficult>"
        sides = f"<size><width>{SIZE}</width><height>{SIZE}</height><depth>3</depth></size>"
        text = f"<annotation>{sides}{named}<bndbox>{box}</bndbox></object></annotation>\n"
        path = root / "Annotations" / f"{i:04}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    lists = root / "ImageSets" / "Main" / "val.txt"
    lists.parent.mkdir(parents=True, exist_ok=True)
    lists.write_text("".join(f"{i:04}\n" for i in range(count)))
    return dataset("VOC", root=str(root), split="val", classes=list(CLASSES))


def kitti(root: Path, count: int = 4) -> Recipe:
    """In KITTI's."""
    types = ("Car", "Pedestrian", "Cyclist")
    for i in range(count):
        box = picture(root / "training/image_2" / f"{i:06}.png", i)
        path = root / "training/label_2" / f"{i:06}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        corners = " ".join(f"{side:.2f}" for side in box)
        path.write_text(f"{types[i % 3]} 0.00 0 -10 {corners} -1 -1 -1 -1000 -1000 -1000 -10\n")
    return dataset("KITTI", root=str(root), split="trainval")


def wider_face(
    root: Path, count: int = 4, *, matlab: bool = False, compressed: bool = True
) -> Recipe:
    """In WIDER FACE's, as text or, with the benchmark's lists beside it, as MATLAB's."""
    names = [f"0_Parade_{i}" for i in range(count)]
    images = root / "WIDER_val/images/0--Parade"
    boxes = [picture(images / f"{name}.jpg", i) for i, name in enumerate(names)]
    rows = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes]
    folder = root / "wider_face_split"
    folder.mkdir(parents=True, exist_ok=True)
    data = dataset("WIDERFace", root=str(root), split="val")
    if not matlab:
        lines = [
            f"0--Parade/{name}.jpg\n1\n{x} {y} {w} {h} 0 0 0 0 0 0\n"
            for name, (x, y, w, h) in zip(names, rows, strict=True)
        ]
        (folder / "wider_face_val_bbx_gt.txt").write_text("".join(lines))
        return data
    cells = _cells(names, rows)
    savemat(folder / "wider_face_val.mat", cells, do_compression=compressed)
    lists = cells | {"gt_list": _cell([_cell([np.array([[1]]) for _ in rows])])}
    for setting in ("easy", "medium", "hard"):
        savemat(folder / f"wider_{setting}_val.mat", lists, do_compression=compressed)
    data["init_args"]["ground_truth"] = str(folder)
    return data


def _cells(names: list[str], rows: list[list[int]]) -> dict[str, Any]:
    """Cells within cells, as the published files have them."""
    return {
        "event_list": _cell(["0--Parade"]),
        "file_list": _cell([_cell(names)]),
        "face_bbx_list": _cell([_cell([np.array([row]) for row in rows])]),
        "invalid_label_list": _cell([_cell([np.array([[0]]) for _ in rows])]),
    }


def _cell(values: Sequence[Any]) -> Any:
    made = np.empty((len(values), 1), dtype=object)
    for i, value in enumerate(values):
        made[i, 0] = value
    return made


def image_folder(root: Path, count: int = 4) -> Recipe:
    """A folder for each class."""
    for i in range(count * 3):
        picture(root / CLASSES[i % 3] / f"{i:03}.png", i)
    return dataset("ImageFolder", root=str(root))
