"""Limbeck's own models at their smallest, as arguments for recipes and built."""

from typing import Any

import torch

from limbeck.models import BasicBlocks, Classifier, RetinaNet

BLOCKS = {"depths": [1, 1, 1], "widths": [8, 8, 16]}
DETECTOR: dict[str, Any] = {
    "backbone": BLOCKS,
    "num_classes": 5,
    "levels": [3, 4],
    "fpn_channels": 16,
    "head_depth": 1,
    "anchor_sizes": [[14, 20], [28, 40]],
    "aspect_ratios": [1.0],
    "norm": "trained",
    "min_size": 64,
    "max_size": 64,
    "topk_candidates": 50,
    "detections_per_image": 10,
}


def detector(seed: int = 0) -> RetinaNet:
    """20,000 parameters on strides of 8 and 16, for images of 64 pixels."""
    torch.manual_seed(seed)
    return RetinaNet(**DETECTOR | {"backbone": BasicBlocks(**BLOCKS)})


def classifier(seed: int = 0, classes: int = 5) -> Classifier:
    """Its images may have any size."""
    torch.manual_seed(seed)
    return Classifier(BasicBlocks(**BLOCKS), classes)
