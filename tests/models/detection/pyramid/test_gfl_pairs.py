"""A GFL is a student and a teacher of every method on maps, of its own kind and of another."""

import pytest
import torch

from limbeck import Distillation, methods
from limbeck.models import GFL, BasicBlocks, RetinaNet
from tests import batches

LEVELS = ["P3", "P4", "P5"]
METHODS = {
    "AT": lambda: methods.AT(["fpn"]),
    "CWD": lambda: methods.CWD(LEVELS),
    "CWD, classes": lambda: methods.CWD({"cls_maps": "fpn"}),
    "CrossKD": methods.CrossKD,
    "FGD": lambda: methods.FGD(LEVELS),
    "FineGrainedImitation": methods.FineGrainedImitation,
    "FitNet": lambda: methods.FitNet(["fpn", "C4"], adapter="conv"),
    "MGD": lambda: methods.MGD(["C4", "C5"], norm="batch"),
    "MaskedGenerative": lambda: methods.MaskedGenerative(["fpn"]),
    "PKD": lambda: methods.PKD(LEVELS),
    "ReviewKD": lambda: methods.ReviewKD(["fpn"], mid_channels=16),
}


def build(kind, width):
    shape = BasicBlocks((1, 1, 1, 1), (8, 8, width, width))
    return kind(shape, 4, fpn_channels=32, head_depth=1)


PAIRS = [(name, GFL, GFL) for name in METHODS]
PAIRS += [
    (name, *kinds)
    for name in METHODS
    if name != "CrossKD"  # of one kind alone
    for kinds in ((GFL, RetinaNet), (RetinaNet, GFL))
]


@pytest.mark.parametrize(("name", "student", "teacher"), PAIRS)
def test_every_method_on_maps_teaches(name, student, teacher):
    torch.manual_seed(0)
    pair = Distillation(
        build(student, 8), build(teacher, 16), {"it": METHODS[name]()}, student_weight=0.0
    )
    images, targets = batches.detection_batch(2, 128)
    if pair.methods["it"].calibration is not None:
        pair.observe(images, targets)
        pair.solve()
    losses = pair.train()(images, targets)
    losses.total.backward()
    assert losses.total > 0
    gradients = [p.grad for p in pair.student.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)
