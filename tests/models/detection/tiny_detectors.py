"""Tiny detectors of every preset."""

import pytest
from torch import nn

from limbeck.models import BasicBlocks, FasterRCNN, RetinaNet
from limbeck.presets import RETINANET

TINY = BasicBlocks((1, 1, 1, 1), (8, 8, 8, 8))
NAMES = list(RETINANET)
KINDS = {
    RetinaNet: {"fpn_channels": 8, "head_depth": 1},
    FasterRCNN: {"fpn_channels": 8, "box_head_channels": 16},
}
every_detector = pytest.mark.parametrize("kind", list(KINDS))
every_preset = pytest.mark.parametrize("preset", NAMES)


def tiny(kind: type, preset: str, backbone=TINY, **arguments) -> nn.Module:
    """A detector of three classes."""
    return kind(backbone, 3, **{"preset": preset, "norm": "trained"} | KINDS[kind] | arguments)
