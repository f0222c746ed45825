"""Tiny detectors of every preset."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

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


def nothing() -> dict[str, Tensor]:
    """The target of an image without objects."""
    return {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


class LargestTensor(TorchDispatchMode):
    """How many elements the largest tensor has that is made within."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        if isinstance(out, Tensor):
            self.elements = max(self.elements, out.numel())
        return out
