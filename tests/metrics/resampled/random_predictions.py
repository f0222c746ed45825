"""Small random datasets and what a model predicts on them, with overlaps, ties and empty images."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from limbeck.metrics.predictions import Predictions

CLASSES = ("car", "cat", "face")
More = Callable[[Generator, int], dict[str, Tensor]]


def detections(
    rng: Generator, images: int, classes: int, more: More, *, levels: int = 4
) -> Predictions:
    """Boxes on a coarse grid: many overlap, and many of the scores are equal.

    Args:
        rng: The source of randomness.
        images: The number of images.
        classes: The number of classes.
        more: The further fields of a target, for so many objects.
        levels: The number of different scores.
    """
    found, truth = [], []
    for _ in range(images):
        objects = _boxes(rng, int(rng.integers(0, 5)), classes)
        count = len(objects["labels"])
        truth.append(objects | more(rng, count))
        copies = rng.integers(0, count, int(rng.integers(0, 6)) if count else 0)
        shaken = objects["boxes"][copies] + torch.from_numpy(rng.integers(-4, 5, (len(copies), 4)))
        boxes = _boxes(rng, int(rng.integers(0, 3)), classes)
        boxes = {
            "boxes": torch.cat([boxes["boxes"], shaken]).float(),
            "labels": torch.cat([boxes["labels"], objects["labels"][copies]]),
        }
        scores = rng.integers(1, levels + 1, len(boxes["labels"])) / levels
        found.append(boxes | {"scores": torch.from_numpy(scores).float()})
    sizes = torch.full((images, 2), 100)
    return Predictions("detection", CLASSES[:classes], sizes, found, truth)


def weights(rng: Generator, draws: int, images: int) -> np.ndarray:
    """Draws with replacement, the first of which has every image once."""
    drawn = rng.multinomial(images, np.full(images, 1 / images), size=draws - 1)
    return np.concatenate([np.ones((1, images), dtype=np.int64), drawn])


def _boxes(rng: Generator, count: int, classes: int) -> dict[str, Tensor]:
    corner = rng.integers(0, 50, (count, 2))
    return {
        "boxes": torch.from_numpy(
            np.concatenate([corner, corner + rng.integers(20, 60, (count, 2))], axis=1)
        ).float(),
        "labels": torch.from_numpy(rng.integers(1, classes + 1, count)),
    }
