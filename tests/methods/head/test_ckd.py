"""CKD: properties of the cells that it reads, and of what counts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from limbeck.methods.head.akd import AKD
from limbeck.methods.head.ckd import CKD, cells


def numbers(draw, count: int, high: int) -> Tensor:
    return torch.tensor(draw(st.lists(st.integers(0, high), min_size=count, max_size=count)))


@given(st.data(), st.integers(1, 12))
def test_cells_are_read_one_by_one(data, count: int) -> None:
    maps = [torch.rand(2, 3, h, w) for h, w in ((5, 7), (3, 4), (1, 1))]
    level = numbers(data.draw, count, 2)
    image = numbers(data.draw, count, 1)
    y, x = (
        numbers(data.draw, count, 100) % torch.tensor([m.shape[axis] for m in maps])[level]
        for axis in (2, 3)
    )
    found = cells(maps, torch.stack([image, level, y, x], dim=1))
    for row, (i, k, v, u) in enumerate(zip(image, level, y, x, strict=True)):
        assert torch.equal(found[row], maps[k][i, :, v, u])


@pytest.mark.parametrize("adapter", ["shared", "per_anchor"])
def test_ground_truth_counts_for_nothing_in_ckd(adapter) -> None:
    ckd = CKD(3, 5, 2, adapter)
    maps = [torch.rand(1, 3, 4, 4), torch.rand(1, 3, 2, 2)]
    positions = torch.tensor([[0, -1, -1, -1, 7], [0, 0, 3, 2, 1], [0, 1, 0, 1, 0]])
    hints = torch.rand(3, 5)
    alone = ckd(maps, positions[1:], hints[1:])
    hints[0] = 1e6
    torch.testing.assert_close(ckd(maps, positions, hints), alone)
    nothing = ckd(maps, positions[:1], hints[:1])
    nothing.backward()
    assert nothing == 0
    assert not ckd.adapter.weight.grad.any()


@pytest.mark.parametrize("adapter", ["shared", "per_anchor"])
def test_distillation_waits_for_no_value(adapter) -> None:
    """Fake tensors have none: whatever asks for one, as a GPU would be waited for, fails."""
    with FakeTensorMode():
        ckd = CKD(3, 5, 2, adapter)
        maps = [torch.rand(2, 3, 4, 4, requires_grad=True), torch.rand(2, 3, 2, 2)]
        hints = torch.rand(6, 5)
        akd = AKD([hints], [hints])
        positions = torch.zeros(6, 5, dtype=torch.int64)
        losses = [ckd(maps, positions, hints), *akd([hints], [hints]).values()]
        sum(losses).backward()
        with pytest.raises(DataDependentOutputException):
            losses[0].item()
