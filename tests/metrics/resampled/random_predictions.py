"""Small random datasets and what a model predicts on them, with overlaps, ties and empty images."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from limbeck.metrics.predictions import Predictions

CLASSES = ("car", "cat", "face")
IMAGES = 36
ROUNDING = 2e-7  # of the metrics' float32
More = Callable[[Generator, int], dict[str, Tensor]]


def detections(rng: Generator, more: More, classes: int = 3, *, ties: bool = False) -> Predictions:
    """Boxes on a coarse grid in 36 images, so that many overlap; scores are tied between images.

    Args:
        rng: The source of randomness.
        more: The further fields of a target, for so many objects.
        classes: The number of classes.
        ties: Whether scores are tied within an image, too.
    """
    found, truth = [], []
    for _ in range(IMAGES):
        objects = _boxes(rng, int(rng.integers(0, 5)), classes)
        count = len(objects["labels"])
        truth.append(objects | more(rng, count))
        copies = rng.integers(0, count, int(rng.integers(0, 6)) if count else 0)
        shaken = objects["boxes"][copies] + torch.from_numpy(rng.integers(-4, 5, (len(copies), 4)))
        other = _boxes(rng, int(rng.integers(0, 3)), classes)
        labels = torch.cat([other["labels"], objects["labels"][copies]])
        scores = rng.choice(4 if ties else 10, len(labels), replace=ties) / 10
        found.append(
            {
                "boxes": torch.cat([other["boxes"], shaken]).float(),
                "labels": labels,
                "scores": torch.from_numpy(scores).float(),
            }
        )
    sizes = torch.full((IMAGES, 2), 110)
    return Predictions("detection", CLASSES[:classes], sizes, found, truth)


def untied(predictions: Predictions) -> Predictions:
    """The same boxes with scores that differ, in the order that a stable sorting gives them."""
    scores = torch.cat([item["scores"] for item in predictions.found])
    ranks = scores.argsort(descending=True, stable=True).argsort()
    parts = (1 - ranks / len(ranks)).split([len(item["scores"]) for item in predictions.found])
    found = [item | {"scores": part} for item, part in zip(predictions.found, parts, strict=True)]
    return replace(predictions, found=found)


def weights(rng: Generator) -> np.ndarray:
    """Six draws with replacement, and one that has every image once."""
    drawn = rng.multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), size=6)
    return np.concatenate([drawn, np.ones((1, IMAGES), dtype=np.int64)])


def _boxes(rng: Generator, count: int, classes: int) -> dict[str, Tensor]:
    corner = rng.integers(0, 50, (count, 2))
    return {
        "boxes": torch.from_numpy(
            np.concatenate([corner, corner + rng.integers(20, 60, (count, 2))], axis=1)
        ).float(),
        "labels": torch.from_numpy(rng.integers(1, classes + 1, count)),
    }
