"""Tiny detectors of every preset."""

import pytest
import torch
from torch import Tensor, nn

from limbeck.models import BasicBlocks, FasterRCNN, RetinaNet
from limbeck.models.detection.presets import PRESETS

TINY = BasicBlocks((1, 1, 1, 1), (8, 8, 8, 8))
NAMES = list(PRESETS)
KINDS = {
    RetinaNet: {"fpn_channels": 8, "head_depth": 1},
    FasterRCNN: {"fpn_channels": 8, "box_head_channels": 16},
}
every_detector = pytest.mark.parametrize("kind", list(KINDS))
every_preset = pytest.mark.parametrize("preset", NAMES)


def tiny(kind: type, preset: str, backbone=TINY, **arguments) -> nn.Module:
    """A detector of three classes."""
    return kind(backbone, 3, **{"preset": preset, "norm": "trained"} | KINDS[kind] | arguments)


def nothing() -> dict[str, Tensor]:
    """The target of an image without objects."""
    return {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
