"""SqueezeDet's deltas, and the anchor that each object has."""

import math

import torch

from limbeck.models.detection.grid import squeezedet
from limbeck.models.detection.grid.shuffledet import SpreadAnchors
from limbeck.models.detection.grid.squeezedet import anchors_of_objects, decoded, encoded, safe_exp
from tests.observation import Allocated

SIZE = (64, 128)
SHAPES = ((16.0, 16.0), (40.0, 24.0), (12.0, 40.0))
BOXES = torch.tensor([[4.0, 6.0, 40.0, 50.0], [60.0, 8.0, 120.0, 36.0]])


def test_deltas_and_back():
    anchors = SpreadAnchors(SHAPES).on((4, 8), SIZE)[[10, 40]]
    assert torch.allclose(decoded(encoded(BOXES, anchors), anchors), BOXES, atol=1e-4)


def test_safe_exponent_goes_on_straight():
    x = torch.tensor([-2.0, 0.9, 1.5, 80.0], requires_grad=True)
    y = safe_exp(x)
    expected = [math.exp(-2), math.exp(0.9), 1.5 * math.e, 80 * math.e]
    assert torch.allclose(y, torch.tensor(expected))
    y.sum().backward()
    assert torch.allclose(x.grad, torch.tensor([math.exp(-2), math.exp(0.9), math.e, math.e]))


def test_each_box_has_an_anchor_of_its_own():
    anchors = SpreadAnchors(SHAPES).on((4, 8), SIZE)
    same = BOXES[:1].repeat(5, 1)
    outside = torch.tensor([[500.0, 500.0, 520.0, 520.0]]).repeat(2, 1)
    images = [same, torch.zeros(0, 4), outside, BOXES]
    found = [chosen.tolist() for chosen in anchors_of_objects(images, anchors)]
    assert [len(chosen) for chosen in found] == [5, 0, 2, 2]
    assert all(len(set(chosen)) == len(chosen) for chosen in found)
    assert all(anchor // 3 // 8 == 3 for anchor in found[2])  # in the last row of cells
    alone = [anchors_of_objects([boxes], anchors)[0].tolist() for boxes in images]
    assert found == alone
    assert anchors_of_objects([torch.zeros(0, 4)], anchors)[0].tolist() == []


def test_a_crowd_is_compared_in_parts(monkeypatch):
    """An anchor that one part took is not there for the next."""
    anchors = SpreadAnchors(SHAPES).on((4, 8), SIZE)
    crowd = [BOXES[:1].repeat(90, 1), BOXES.repeat(20, 1)]
    with Allocated() as new:
        found = [chosen.tolist() for chosen in anchors_of_objects(crowd, anchors)]
    assert max(new.sizes) < 4 * 2 * 90 * 2 * len(anchors)
    assert [len(set(chosen)) for chosen in found] == [90, 40]
    monkeypatch.setattr(squeezedet, "_BLOCK", 1000)
    assert [chosen.tolist() for chosen in anchors_of_objects(crowd, anchors)] == found
