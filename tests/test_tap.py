from collections import namedtuple

import pytest
import torch

from limbeck.tap import Tap, TapError, map_tensors, tensors_in


@pytest.mark.parametrize(
    ("written", "path", "side", "calls", "keys"),
    [
        ("backbone.fpn", "backbone.fpn", "output", -1, ()),
        ("layer4.2.relu:input", "layer4.2.relu", "input", -1, ()),
        ("head.conv.3[*]", "head.conv.3", "output", None, ()),
        ("head.conv[0]", "head.conv", "output", 0, ()),
        ("head.conv:input[-2]", "head.conv", "input", -2, ()),
        ("backbone/p6", "backbone", "output", -1, ("p6",)),
        ("rpn[*]/1/boxes", "rpn", "output", None, ("1", "boxes")),
        ("", "", "output", -1, ()),
    ],
)
def test_written_form(written, path, side, calls, keys):
    tap = Tap.parse(written)
    assert (tap.path, tap.side, tap.calls, tap.keys) == (path, side, calls, keys)
    assert str(tap) == (written or "<model>")


@pytest.mark.parametrize("written", ["a b", "a:both", "a[x]", "a[*", "a/", "a[1][2]"])
def test_malformed_is_refused_with_the_form(written):
    with pytest.raises(TapError, match=r"path\[:input\|:output\]"):
        Tap.parse(written)


def test_picks_items_one_after_the_other():
    value = {"levels": (torch.tensor(1.0), [torch.tensor(2.0), torch.tensor(3.0)])}
    assert Tap.parse("m/levels/1/0").pick(value) == 2
    assert Tap.parse("m/levels/-1/1").pick(value) == 3
    assert Tap("m", keys=("levels",), select=len).pick(value) == 2


@pytest.mark.parametrize(
    ("written", "value", "says"),
    [
        ("m/p6", {"p3": 0, "p4": 0}, "keys 'p3', 'p4'"),
        ("m/2", (0, 0), "a sequence of 2 items"),
        ("m/-3", (0, 0), "a sequence of 2 items"),
        ("m/p6", (0, 0), "a tuple"),
        ("m/0", torch.zeros(3), "a Tensor"),
    ],
)
def test_missing_item_is_named(written, value, says):
    with pytest.raises(TapError, match=says):
        Tap.parse(written).pick(value)


def test_maps_every_tensor_and_keeps_containers():
    Point = namedtuple("Point", "x y")
    value = {"a": [torch.tensor(1)], "b": Point(torch.tensor(2), "text"), "c": (torch.Size([3]),)}
    doubled = map_tensors(value, lambda tensor: tensor * 2)
    assert doubled == {"a": [torch.tensor(2)], "b": Point(4, "text"), "c": (torch.Size([3]),)}
    assert type(doubled["b"]) is Point
    assert tensors_in(value) == [torch.tensor(1), torch.tensor(2)]
