"""Networks with the names and proportions of real ones, a sixteenth as wide."""

from typing import Any

import torch
from torch import nn

from limbeck import models
from tests.checkpoints.manifests import Tensors, counted


def small(network: nn.Module) -> Tensors:
    """Tensors for a network, which may be on ``meta``: each value is unlike its neighbours."""
    return counted({name: _narrow(value.shape) for name, value in network.state_dict().items()})


def small_detector(kind: str, backbone: str, **arguments: Any) -> Tensors:
    """Of limbeck's detector of three classes; RetinaNet with as many columns."""
    given = {"preset": "mmdetection", "fpn_channels": 64} | arguments
    with torch.device("meta"):
        network = getattr(models, kind)(backbone, 3, **given)
    return small(network)


def _narrow(shape: torch.Size) -> torch.Size:
    return torch.Size(side // 16 if side >= 64 else side for side in shape)
