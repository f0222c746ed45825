"""torchvision's heads, and what they have beyond: depth, shared boxes, full precision."""

import pytest
import torch
from torch import nn

from limbeck.models import BasicBlocks, RetinaNet
from limbeck.models.detection.parts.heads import (
    BoxPredictor,
    ClassAgnosticBoxPredictor,
    FCOSHead,
    RetinaNetHead,
    RPNHead,
    SSDHead,
    SSDLiteHead,
)

TINY = BasicBlocks((1, 1, 1), (4, 8, 8))
HEADS = {
    "RetinaNet": lambda: RetinaNetHead(32, 2, 3, depth=1),
    "FCOS": lambda: FCOSHead(32, 3, depth=1),
    "RPN": lambda: RPNHead(32, 2),
    "SSD": lambda: SSDHead([32], [2], 3),
    "SSDLite": lambda: SSDLiteHead([32], [2], 3, nn.BatchNorm2d),
    "box predictor": lambda: BoxPredictor(8, 3),
    "class-agnostic": lambda: ClassAgnosticBoxPredictor(8, 3),
}


def test_head_depth_has_torchvisions_names() -> None:
    model = RetinaNet(TINY, 2, levels=(3, 4), fpn_channels=8, head_depth=5)
    names = [name for name in model.state_dict() if "classification_head.conv" in name]
    assert names[0] == "head.classification_head.conv.0.0.weight"
    assert names[-1] == "head.classification_head.conv.4.0.bias"
    assert model.head.regression_head.conv[4][0].weight.std().item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("name", HEADS)
def test_outputs_are_in_full_precision_under_autocast(name: str) -> None:
    head = HEADS[name]()
    inner = [m for m in head.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    seen: list[torch.dtype] = []
    for module in inner:
        module.register_forward_hook(lambda _, args, output: seen.append(output.dtype))
    features = torch.randn(2, 8) if "predictor" in name or "agnostic" in name else None
    with torch.autocast("cpu", torch.bfloat16):
        found = head([torch.randn(1, 32, 4, 4)] if features is None else features)
    assert set(seen) == {torch.bfloat16}
    outputs = found.values() if isinstance(found, dict) else found
    flat = [t for output in outputs for t in (output if isinstance(output, list) else [output])]
    assert {tensor.dtype for tensor in flat} == {torch.float32}


def test_a_class_agnostic_box_is_every_class_s() -> None:
    head = ClassAgnosticBoxPredictor(8, 3)
    features = torch.randn(5, 8)
    logits, deltas = head(features)
    assert logits.shape == (5, 3)
    for columns in deltas.split(4, dim=1):
        assert torch.equal(columns, head.bbox_pred(features))
    assert deltas.shape == (5, 12)
