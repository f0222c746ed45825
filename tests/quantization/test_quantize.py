import copy

import pytest
import torch
from torch import nn

from limbeck import Distillation, methods
from limbeck.quantization import (
    FakeQuantize,
    Quantization,
    calibrate,
    in_floats,
    planned,
    quantize,
)
from tests import batches, tiny_models
from tests.models.lively_weights import scramble
from tests.quantization.test_plan import Residual

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def quantized(model: nn.Module, images=IMAGES) -> nn.Module:
    """Planned, quantized and calibrated on images."""
    model.eval()
    quantize(model, planned(model, lambda: model(images)))
    calibrate(model, model, [images])
    return model


def test_folding_alone_changes_nothing():
    torch.manual_seed(0)
    model = Residual()
    scramble(model)
    expected = model.eval()(IMAGES)
    quantization = planned(model, lambda: model(IMAGES))
    quantize(model, quantization)
    with in_floats(model, [""]):
        torch.testing.assert_close(model(IMAGES), expected)


def test_rounding_is_near_and_layers_leave_it_one_by_one():
    torch.manual_seed(0)
    model = Residual()
    expected = model.eval()(IMAGES)
    quantized(model)
    far = (model(IMAGES) - expected).abs().max()
    assert 0 < far < 0.05 * expected.abs().max()
    with in_floats(model, ["head"]):
        assert not torch.equal(model(IMAGES), expected)
        assert not model.head.input_quantizer.rounds
        assert model.first.input_quantizer.rounds
    assert model.head.input_quantizer.rounds


def test_a_frozen_layer_stays_frozen():
    model = Residual().eval()
    model.first.requires_grad_(False)
    quantized(model)
    assert not model.first.parametrizations.weight.original.requires_grad
    assert not model.first.bias.requires_grad
    assert model.second.parametrizations.weight.original.requires_grad


def test_a_quantized_student_is_taught_where_its_places_are():
    student = quantized(tiny_models.classifier())
    pair = Distillation(student, tiny_models.classifier(1), [methods.KD(), methods.FitNet(["C4"])])
    optimizer = torch.optim.SGD(pair.trainable_parameters(), lr=0.05)
    images, targets = batches.pictures(4), batches.labels(4)
    pair.train()
    before = copy.deepcopy(student.state_dict())
    totals = []
    for _ in range(8):
        losses = pair(images, targets)
        losses.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        pair.advance()
        totals.append(losses.total.item())
    assert totals[-1] < totals[0]
    changed = {n for n, v in student.state_dict().items() if not torch.equal(v, before[n])}
    assert any(name.endswith("weight.original") for name in changed)
    assert any(name.endswith("input_quantizer.scale") for name in changed)


def test_a_detector_trains_in_bfloat16_too():
    student = tiny_models.detector()
    images, targets = batches.detection_batch()
    student.eval()
    quantize(student, planned(student, lambda: student(images)))
    calibrate(student, student, [images])
    student.train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = student(images, targets)
    sum(losses.values()).backward()
    weights = [m.original for m in student.modules() if hasattr(m, "original")]
    assert weights
    assert all(weight.grad.isfinite().all() for weight in weights)


@pytest.mark.parametrize(
    ("quantization", "said"),
    [
        (Quantization({"frist": True}), r"'frist', which in Residual is no module"),
        (Quantization({"norm": True}), r"'norm', which in Residual is a BatchNorm2d"),
        (Quantization({"first": True}, {"head": "first"}), r"'head', .* is a Linear"),
        (Quantization({"first": True}, {"norm": "head"}), r"'head', .* is a Linear"),
    ],
)
def test_what_does_not_suit_the_network_is_refused(quantization, said):
    with pytest.raises(ValueError, match=said):
        quantize(Residual(), quantization)


def test_calibration_is_the_mean_over_batches_and_begins_anew():
    model = nn.Sequential(nn.Conv2d(1, 1, 1)).eval()
    quantize(model, Quantization({"0": True}))
    for _ in range(2):
        calibrate(model, model, [torch.full((1, 1, 2, 2), high) for high in (1.0, 2.0, 6.0)])
        torch.testing.assert_close(model[0].input_quantizer.high, torch.tensor([3.0]))
    assert not any(m.training for m in model.modules() if isinstance(m, FakeQuantize))
    assert model[0].input_quantizer.averaging == 0.01


def test_calibration_of_a_layer_that_levels_share():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 1, 1)

        def forward(self, batch):
            return [self.layer(torch.full((1, 1, 2, 2), value)) for value in batch]

    model = Shared().eval()
    quantize(model, Quantization({"layer": True}))
    calibrate(model, model, [[10.0, 1.0], [2.0, 20.0]])
    assert model.layer.input_quantizer.high.item() == 15.0


def test_a_layer_that_saw_nothing_is_named():
    model = Residual().eval()
    quantize(model, Quantization({"first": True, "unused": True}))
    with pytest.raises(ValueError, match=r"1 batches were seen, and unused\.input_quantizer"):
        calibrate(model, model, [IMAGES])
    with pytest.raises(ValueError, match=r"0 batches were seen"):
        calibrate(model, model, [])
