import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.quantization import FakeQuantize


@given(st.floats(-50, 50), st.floats(0.01, 50), st.integers(0, 5))
def test_activations_are_off_by_half_a_step_at_most_and_0_is_0(low: float, width: float, seed: int):
    values = low + width * torch.rand(64, generator=torch.Generator().manual_seed(seed))
    values[0] = 0.0
    quantizer = FakeQuantize()
    rounded = quantizer(values)
    step = quantizer.scale.item()
    assert step == pytest.approx((values.max() - values.min()).item() / 255, rel=1e-5)
    assert (rounded - values).abs().max() <= step * 0.502
    assert rounded[0] == 0
    assert len(rounded.unique()) <= 256


def test_each_channel_of_a_weight_has_its_own_scale():
    weight = torch.randn(4, 3, 3, 3) * torch.tensor([0.01, 1, 10, 0]).view(4, 1, 1, 1)
    quantizer = FakeQuantize(4)
    rounded = quantizer(weight)
    largest = weight.flatten(1).abs().amax(1)
    torch.testing.assert_close(quantizer.scale[:3], largest[:3] / 127)
    assert ((rounded - weight).flatten(1).abs().amax(1) <= quantizer.scale * 0.502).all()
    torch.testing.assert_close(rounded[3], torch.zeros(3, 3, 3))
    assert not quantizer.zero_point.any()


def test_ranges_follow_the_passes_of_training_alone():
    quantizer = FakeQuantize()
    for values in ([-1.0, 3.0], [-2.0, 4.0]):
        quantizer(torch.tensor(values))
        quantizer.settle()
    torch.testing.assert_close(quantizer.low, torch.tensor([-1.01]))
    torch.testing.assert_close(quantizer.high, torch.tensor([3.01]))
    before = copy.deepcopy(quantizer.state_dict())
    assert quantizer.eval()(torch.tensor([9.0])).item() == pytest.approx(3.01, abs=0.02)
    torch.testing.assert_close(quantizer.state_dict(), before)


def test_a_layer_that_runs_several_times_in_a_pass_has_their_extremes():
    quantizer = FakeQuantize()
    quantizer.averaging = 0.5
    for highs in ([10.0, 1.0], [2.0, 6.0], []):  # the last pass does not run it
        for high in highs:
            quantizer(torch.tensor([high]))
        quantizer.settle()
    assert quantizer.high.item() == 8.0


def test_the_gradient_passes_where_a_value_is_in_range():
    quantizer = FakeQuantize()
    quantizer(torch.tensor([0.0, 1.0]))
    values = torch.tensor([-0.5, 0.3, 0.9, 1.7], requires_grad=True)
    quantizer.eval()(values).sum().backward()
    assert values.grad.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_ranges_stay_in_full_precision(half):
    quantizer, weights = FakeQuantize().to(half), FakeQuantize(2).to(half)
    for high in (1.0, 1.1):
        quantizer(torch.tensor([high], dtype=half))
        quantizer.settle()
    assert quantizer.high.item() == pytest.approx(1.001, abs=1e-4)  # 1.0 in bfloat16
    assert weights(torch.ones(2, 3, dtype=half)).dtype is half


def test_half_precision_is_rounded_in_full():
    values = torch.rand(100)
    full, half = FakeQuantize(), FakeQuantize()
    given = values.bfloat16()
    assert half(given).dtype == torch.bfloat16
    torch.testing.assert_close(half.scale, full(given.float()).new_tensor([full.scale.item()]))


def test_without_rounding_values_are_as_they_were():
    quantizer = FakeQuantize()
    quantizer.rounds = False
    values = torch.rand(3)
    assert quantizer(values) is values
