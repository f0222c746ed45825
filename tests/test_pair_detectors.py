"""Detectors of every family are trained on images without labels."""

import pytest
import torch

from limbeck import Distillation
from limbeck.methods import FitNet
from limbeck.models import SSD, FasterRCNN, RetinaNet, ShuffleDet, YOLOv2
from tests.models.detection.c4.small_c4 import small
from tests.models.detection.tiny_detectors import TINY, tiny

SIZE = (64, 96)
GRID = {"image_size": SIZE, "anchor_shapes": [(16.0, 16.0), (40.0, 24.0)]}
MODELS = {
    "RetinaNet": lambda: tiny(RetinaNet, "mmdetection"),
    "FasterRCNN": lambda: tiny(FasterRCNN, "detectron2"),
    "FasterRCNNC4": small,
    "SSD": lambda: SSD(TINY, 3, image_size=SIZE, levels=(3, 6)),
    "ShuffleDet": lambda: ShuffleDet(0.25, 3, **GRID),
    "YOLOv2": lambda: YOLOv2(0.0625, 3, **GRID),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_detector_learns_without_labels_and_its_head_rests(name: str) -> None:
    pair = Distillation(MODELS[name](), MODELS[name](), {"hint": FitNet(["C4"])}).train()
    losses = pair([torch.rand(3, *SIZE), torch.rand(3, *SIZE)], None)
    assert list(losses) == ["hint/C4"]
    losses.total.backward()
    named = list(pair.student.named_parameters())
    reached = {name for name, parameter in named if parameter.grad is not None}
    assert reached
    heads = [name for name, _ in named if name.startswith(("head.", "rpn.", "roi_heads."))]
    assert heads
    assert not reached & set(heads)
