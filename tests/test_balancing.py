"""How strongly each term pulls at the student."""

import pytest
import torch
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation
from limbeck.balancing import balance
from limbeck.methods import KD, Method
from limbeck.schedules import EarlyStop, WarmUp, as_schedule
from tests import batches, small_models


def make_pair(methods):
    return Distillation(small_models.resnet(), small_models.resnet(Bottleneck), methods)


@pytest.fixture
def batch():
    return batches.pictures(), batches.labels()


def test_balance_measures_every_terms_gradient(batch):
    pair = make_pair({"soft": KD(weight=0.5), "late": KD(weight=WarmUp(1.0, 5))}).train()
    told = {term.name: term for term in balance(pair, *batch).terms}
    assert list(told) == ["student/cross_entropy", "soft/logits", "late/logits"]
    losses = pair(*batch)
    parameters = list(pair.student.parameters())
    norms = {}
    for name in list(losses)[:2]:
        gradients = torch.autograd.grad(losses[name], parameters, retain_graph=True)
        norms[name] = sum(g.double().square().sum() for g in gradients).sqrt().item()
        assert told[name].gradient == pytest.approx(norms[name], rel=1e-4)
        assert told[name].raw == pytest.approx(losses.raw[name].item(), rel=1e-5)
        assert told[name].weighted == pytest.approx(losses[name].item(), rel=1e-5)
        share = norms[name] / sum(term.gradient for term in told.values())
        assert told[name].share == pytest.approx(share, rel=1e-4)
    assert (told["late/logits"].gradient, told["late/logits"].weighted) == (0.0, 0.0)
    assert told["late/logits"].raw == pytest.approx(told["soft/logits"].raw)
    # The weight that would bring a term level, whatever its weight is now: 0 during a warm-up.
    level = 0.5 * norms["student/cross_entropy"] / norms["soft/logits"]
    assert told["soft/logits"].level == pytest.approx(level, rel=1e-4)
    assert told["late/logits"].level == pytest.approx(level, rel=1e-4)
    assert told["student/cross_entropy"].level is None
    assert sum(term.share for term in told.values()) == pytest.approx(1.0)
    assert "late/logits" in str(balance(pair, *batch))


def test_a_level_holds_for_the_largest_weight_of_the_students_own_losses(batch):
    pair, levels = make_pair([KD()]).train(), []
    pair.number = 20
    for weight in (0.5, WarmUp(0.5, 1000), EarlyStop(0.5, 1)):
        pair.student_weight = as_schedule(weight)
        levels.append(balance(pair, *batch).terms[-1].level)
    assert levels == pytest.approx([levels[0]] * 3)


class Tiny(Method):
    """The sum of the logits times 2 ** -30, whose gradient float16 cannot hold."""

    def __init__(self):
        super().__init__()
        self.student_taps = {"logits": ""}
        self.weights = {"sum": 1.0}

    def forward(self, step):
        return {"sum": (step.student.features["logits"].half() * 2**-30).float().sum()}


def test_gradients_that_vanish_in_float16_are_measured(batch):
    pair = make_pair({"tiny": Tiny()}).train()
    found = balance(pair, *batch).terms[-1]
    total = pair.student(batch[0]).sum()
    gradients = torch.autograd.grad(total, list(pair.student.parameters()), allow_unused=True)
    norm = torch.stack([g.norm() for g in gradients if g is not None]).norm()
    assert found.gradient == pytest.approx(norm.item() * 2**-30, rel=1e-3)
