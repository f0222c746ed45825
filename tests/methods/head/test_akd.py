import pytest
import torch

from limbeck.methods.head.akd import AKD


def test_the_loss_of_a_layer_is_the_mean_over_regions_and_channels() -> None:
    student, teacher = (
        [torch.randn(5, 3), torch.randn(5, 4)],
        [torch.randn(5, 6), torch.randn(5, 2)],
    )
    akd = AKD(student, teacher)
    losses = akd(student, teacher)
    assert list(losses) == ["akd.1", "akd.2"]
    for (loss, adapter), s, t in zip(
        zip(losses.values(), akd.adapters, strict=True), student, teacher, strict=True
    ):
        expected = (s @ adapter.weight.T + adapter.bias - t).square().mean()
        torch.testing.assert_close(loss, expected)


def test_without_a_region_the_loss_is_zero_and_has_a_gradient() -> None:
    akd = AKD([torch.zeros(0, 3)], [torch.zeros(0, 6)])
    (loss,) = akd([torch.zeros(0, 3)], [torch.zeros(0, 6)]).values()
    assert loss == 0
    loss.backward()
    assert all(not p.grad.any() for p in akd.parameters())


def test_another_number_of_layers_is_refused() -> None:
    with pytest.raises(
        ValueError, match="the assist has 2 hidden layers, the teacher's box head 1"
    ):
        AKD([torch.zeros(1, 3)] * 2, [torch.zeros(1, 3)])
