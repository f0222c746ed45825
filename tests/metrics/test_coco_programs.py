"""One evaluation gives what faster-coco-eval gives class by class, to the last bit."""

import numpy as np
import pytest
import torch
from numpy.random import Generator
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from limbeck.metrics import COCOAveragePrecision
from limbeck.metrics.detections import Boxes

NAMES = {
    "AP": "map",
    "AP50": "map_50",
    "AP75": "map_75",
    "AP_small": "map_small",
    "AP_medium": "map_medium",
    "AP_large": "map_large",
}
AREAS = (0, -1, 50, 32**2, 3000, 96**2, 20000, 1e10, 2e10)
Image = tuple[Boxes, Boxes]


def class_by_class(images: list[Image]) -> tuple[dict[str, float], dict[int, float]]:
    """The scores of all classes together, and of each label, by an evaluation for each label."""
    program = MeanAveragePrecision(
        # torchmetrics' own thresholds are float32, and miss an IoU or recall of exactly 0.6.
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0.0, 1.0, 101).tolist(),
        class_metrics=True,
        backend="faster_coco_eval",
    )
    program.warn_on_many_detections = False
    for found, truth in images:
        program.update([found], [truth])
    scores = program.compute()
    labels = scores["classes"].reshape(-1).tolist()  # torchmetrics squeezes one class to a scalar
    by_label = scores["map_per_class"].reshape(-1).tolist()
    together = {name: scores[key].item() for name, key in NAMES.items()}
    return together, dict(zip(labels, by_label, strict=True))


def boxes(rng: Generator, count: int, frame: int) -> Tensor:
    """On a grid, so that overlaps are tied; some have no area, and all of some images one size."""
    corners = rng.integers(0, frame, (count, 2))
    sides = rng.integers(rng.random() < 0.9, frame, (count, 2))
    if rng.random() < 0.3:
        sides = np.full((count, 2), rng.choice([10, 32, 96]))
    grid = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    return torch.from_numpy(grid * (4000 if rng.random() < 0.03 else 1))


def random_truth(rng: Generator, classes: int, frame: int) -> Boxes:
    count = int(rng.integers(0, 8))
    labels = torch.from_numpy(rng.integers(1, classes + 1, count))
    truth = {"boxes": boxes(rng, count, frame), "labels": labels}
    if rng.random() < 0.7:
        truth["iscrowd"] = torch.from_numpy(rng.random(count) < 0.25).long()
    if rng.random() < 0.5:
        truth["area"] = torch.from_numpy(rng.choice(AREAS, count)).float()
    return truth


def random_found(rng: Generator, truth: Boxes, classes: int, frame: int) -> Boxes:
    """Near the objects or anywhere, seldom more than 100; few scores, and some of label 0."""
    objects = len(truth["labels"])
    count = int(rng.integers(0, 12) if rng.random() < 0.8 else rng.integers(90, 260))
    copies = rng.integers(0, objects, count) if objects else np.zeros(0, dtype=int)
    moves = torch.from_numpy(rng.integers(-3, 4, (len(copies), 4))) * int(rng.random() < 0.8)
    others = int(rng.integers(0, 4))
    labels = [truth["labels"][copies], torch.from_numpy(rng.integers(0, classes + 1, others))]
    levels = rng.choice([3, 10, 1000])
    scores = rng.integers(0, levels, len(copies) + others) / levels
    return {
        "boxes": torch.cat([truth["boxes"][copies] + moves, boxes(rng, others, frame)]),
        "labels": torch.cat(labels),
        "scores": torch.from_numpy(scores).float(),
    }


def random_images(rng: Generator, classes: int) -> list[Image]:
    frame = int(rng.choice([12, 40, 120, 200]))
    images = []
    for _ in range(int(rng.integers(1, 7))):
        truth = random_truth(rng, classes, frame)
        images.append((random_found(rng, truth, classes, frame), truth))
    return images


@pytest.mark.parametrize("first_seed", range(0, 100, 10))
def test_one_evaluation_gives_the_scores_of_one_for_each_class(first_seed: int) -> None:
    """With crowds, ties, sizes on the border, empty images and classes, and > 100 boxes."""
    for seed in range(first_seed, first_seed + 10):
        rng = np.random.default_rng(seed)
        names = "abcde"[: int(rng.integers(1, 6))]
        images = random_images(rng, len(names))
        metric = COCOAveragePrecision(names)
        for found, truth in images:
            metric.update([found], [truth])
        together, by_label = class_by_class(images)
        expected = together | {f"AP/{n}": by_label.get(i, -1.0) for i, n in enumerate(names, 1)}
        assert {name: score.item() for name, score in metric.compute().items()} == expected, seed


def test_the_random_images_have_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    images = [image for _ in range(100) for image in random_images(rng, 3)]
    scores = [found["scores"] for found, _ in images]
    assert max(map(len, scores)) > 200
    assert any(len(each) > len(each.unique()) for each in scores)
    assert any(truth.get("iscrowd", torch.zeros(1)).any() for _, truth in images)
    assert any(len(truth["labels"]) == 0 < len(found["labels"]) for found, truth in images)
    assert any(len(found["labels"]) == 0 < len(truth["labels"]) for found, truth in images)
    assert any((found["labels"] == 0).any() for found, _ in images)
