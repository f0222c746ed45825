"""Small Faster R-CNNs on C4, of every preset."""

import pytest
from torch import nn

from limbeck.models import BasicBlocks, FasterRCNNC4
from limbeck.models.detection.c4.presets import C4_PRESETS

TINY = BasicBlocks((1, 1, 1, 1), (4, 8, 8, 8))
every_preset = pytest.mark.parametrize("preset", list(C4_PRESETS))
narrow = pytest.mark.usefixtures("narrow_vggs")


def small(backbone: str | BasicBlocks = TINY, preset: str = "fgfi", **arguments) -> FasterRCNNC4:
    """Three classes, small anchors and images."""
    given = {"anchor_sizes": ((16, 32, 64),), "norm": "trained", "min_size": 64, "max_size": 128}
    model = FasterRCNNC4(backbone, 3, preset=preset, **given | arguments)
    model.rpn._post_nms_top_n = {"training": 50, "testing": 50}  # enough, and quick
    return model


def lively(model: nn.Module) -> nn.Module:
    """Scores and boxes that differ from region to region."""
    for name, value in model.named_parameters():
        if "predictor" in name or "rpn.head" in name:
            nn.init.normal_(value, std=0.3 if value.dim() == 1 else value[0].numel() ** -0.5)
    return model
