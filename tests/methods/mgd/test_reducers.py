from functools import partial

import numpy as np
import pytest
import torch

from limbeck.methods.mgd.reducers import REDUCERS, guides
from tests.observation import Allocated

FLOW = torch.tensor([[6, 0, 3], [1, 5, 2]])


def of_plain_loop(feature, choose):
    """(B, T, H, W) to (B, S, H, W), element by element."""
    result = torch.empty(len(feature), len(FLOW), *feature.shape[2:])
    for image, row, y, x in np.ndindex(*result.shape):
        result[image, row, y, x] = choose([feature[image, t, y, x].item() for t in FLOW[row]])
    return result


@pytest.mark.parametrize(
    ("reducer", "choose", "choose_margin"),
    [
        ("amp", partial(max, key=abs), np.mean),
        ("sp", max, max),
        ("sp_mean", np.mean, np.mean),
    ],
)
def test_reducers_against_a_plain_loop(reducer, choose, choose_margin):
    feature, margin = torch.randn(2, 7, 3, 4), torch.randn(1, 7, 1, 1)
    of_feature, of_margin = REDUCERS[reducer]
    torch.testing.assert_close(of_feature(guides(feature, FLOW)), of_plain_loop(feature, choose))
    expected = of_plain_loop(margin, choose_margin)
    torch.testing.assert_close(of_margin(guides(margin, FLOW)), expected)


def test_random_drop_takes_any_of_them_at_each_position_anew():
    feature = torch.arange(7.0)[None, :, None, None].expand(2, 7, 30, 30)
    drop, drop_margin = REDUCERS["rd"]
    drawn = drop(guides(feature, FLOW))
    for row, members in enumerate(FLOW):
        values, counts = drawn[:, row].unique(return_counts=True)
        assert values.tolist() == sorted(members.tolist())
        assert counts.min() > 500  # of 1800 / 3
    assert not torch.equal(drawn, drop(guides(feature, FLOW)))
    assert drop_margin(guides(feature[:1, :, :1, :1], FLOW)).shape == (1, 2, 1, 1)


@pytest.mark.parametrize("reducer", REDUCERS)
def test_one_channel_each_is_a_permutation(reducer):
    feature, flow = torch.randn(2, 4, 3, 3), torch.tensor([[2], [0], [3], [1]])
    for reduce in REDUCERS[reducer]:
        assert torch.equal(reduce(guides(feature, flow)), feature[:, flow[:, 0]])


@pytest.mark.parametrize(("reducer", "times"), [("amp", 3), ("sp", 2), ("sp_mean", 2), ("rd", 3)])
def test_reduction_takes_a_small_multiple_of_the_feature(reducer, times):
    teacher, flow = torch.randn(4, 64, 8, 8), torch.randperm(64).view(16, 4)
    with Allocated() as new:
        REDUCERS[reducer][0](guides(teacher, flow))
    assert sum(new.sizes) <= times * teacher.nbytes
