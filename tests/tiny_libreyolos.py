"""The smallest detector of each family of LibreYOLO, on small images."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.models import LibreYOLODetector

SIDE = 64
NETWORKS = ("yolox-n", "yolo9-t", "rtmdet-t", "ppyoloe-s", "picodet-s")

every_network = pytest.mark.parametrize("name", NETWORKS)


def detector(name: str = "yolox-n", num_classes: int = 3, **others: Any) -> LibreYOLODetector:
    """A detector for images of 64 x 64 px, with random weights."""
    return LibreYOLODetector(name, num_classes, **{"image_size": (SIDE, SIDE)} | others)


@cache
def _weights(name: str) -> dict[str, Tensor]:
    torch.manual_seed(5)
    made = detector(name)
    layers = made.last_layers.layers
    paths = [path for of_kind in layers.values() for path, _ in of_kind]
    for path in (*paths, *made.family.objectness):  # which find nothing at first
        layer = made.network.get_submodule(path)
        nn.init.normal_(layer.weight, std=0.05)
        nn.init.uniform_(layer.bias, 0, 1)
    return dict(made.network.state_dict())


def seeded(name: str, **others: Any) -> LibreYOLODetector:
    """The same weights every time, with which there is something to be found."""
    made = detector(name, **others)
    made.network.load_state_dict(_weights(name))
    return made


def batch() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Two images of unequal sizes, with three boxes."""
    torch.manual_seed(11)
    images = [torch.rand(3, SIDE, SIDE), torch.rand(3, 32, SIDE)]
    targets = [
        {"boxes": [[4.0, 6, 40, 40], [30, 10, 60, 50]], "labels": [1, 3]},
        {"boxes": [[20.0, 4, 50, 30]], "labels": [2]},
    ]
    return images, [
        {"boxes": torch.tensor(t["boxes"]), "labels": torch.tensor(t["labels"])} for t in targets
    ]


def without_boxes() -> list[dict[str, Tensor]]:
    """The targets of the two images, had they no objects."""
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return [none, dict(none)]
