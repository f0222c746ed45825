"""Reading a model in a ``with`` block: where it ends, and that nothing is left behind."""

import pytest
import torch
from torch import nn

from limbeck import TapError, Taps
from limbeck.frame import network_frame
from tests import batches, observation, small_models


@pytest.fixture
def toy():
    return small_models.Toy()


@pytest.fixture
def x():
    return batches.pictures(2, 8)


def test_with_block_ends_at_the_last_tap():
    model, images = small_models.retinanet().eval(), list(batches.pictures())
    reached = False
    names = ["backbone.fpn", "C4.pre"]
    with observation.calls_of(model.head) as heads, Taps(model, names, stop_early=True) as seen:
        model(images)
        reached = True
    assert not reached
    assert heads == []
    assert seen["C4.pre"].min() < 0
    assert list(seen["backbone.fpn"]) == ["0", "1", "2", "p6", "p7"]


def test_with_block_stops_after_a_top_level_module():
    model = small_models.resnet()
    with observation.calls_of(model.layer4) as later, Taps(model, ["C4"], stop_early=True) as seen:
        model(batches.pictures())
    assert later == []
    assert seen["C4"].shape == (2, 64, 4, 4)


@pytest.mark.parametrize("stop_early", [False, True])
def test_with_block_waits_for_every_level_of_a_tower(stop_early):
    model, images = small_models.retinanet().eval(), list(batches.pictures())
    names = ["head.classification_head.conv.3[*]", "head.classification_head.conv.0", "cls_tower"]
    with network_frame(model), Taps(model, names, stop_early=stop_early) as seen:
        model(images)
    assert [level.shape[-1] for level in seen[names[0]]] == [8, 4, 2, 1, 1]
    assert seen[names[1]].shape[-1] == 1
    assert all(torch.equal(a, b) for a, b in zip(seen[names[0]], seen["cls_tower"], strict=True))


def test_with_block_never_stops_before_all_calls_that_are_asked_for(toy, x):
    with Taps(toy, ["head[*]"], stop_early=True) as seen:
        toy(x)
    assert len(seen["head[*]"]) == 3


def test_with_block_stops_at_an_indexed_call(toy, x):
    with observation.calls_of(toy.head) as calls, Taps(toy, ["head[1]"], stop_early=True) as seen:
        toy(x)
    assert len(calls) == 2
    assert torch.equal(seen["head[1]"], toy.head(toy.stem(x) * 2))


def test_with_block_does_not_stop_at_a_shared_activation():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.a, self.b = nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.relu(self.b(self.relu(self.a(x))))

    model, x = Shared(), torch.randn(4, 3)
    with Taps(model, ["relu"], stop_early=True) as seen:
        model(x)
    assert torch.equal(seen["relu"], model(x))


@pytest.mark.parametrize("stop_early", [False, True])
def test_with_block_removes_its_hooks(toy, x, stop_early):
    with Taps(toy, ["stem", "head"], stop_early=stop_early):
        toy(x)
    assert observation.hook_count(toy) == 0


def test_with_block_removes_its_hooks_after_an_exception(toy, x):
    with pytest.raises(KeyError, match="mine"), Taps(toy, ["stem"], stop_early=True) as seen:
        raise KeyError("mine")
    assert observation.hook_count(toy) == 0
    assert seen == {}


def test_no_graph_is_kept_by_a_with_block_that_failed(toy, x):
    taps = Taps(toy, ["stem", "unused"])
    with pytest.raises(TapError), taps:
        toy(x)
    assert all(not reader.values for reader in taps._readers.values())
