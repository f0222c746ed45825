"""Counts and sizes of what is in a split."""

from pathlib import Path

import pytest
import torch

from limbeck.data.contents import Contents
from limbeck.data.facts import Resize, Spread, facts_of
from limbeck.data.table import ImageTable, Objects

BOXES = [[0, 0, 10, 10], [-5, 0, 10, 40], [200, 0, 220, 10], [5, 5, 5.5, 9], [0, 0, 100, 100]]


def contents() -> Contents:
    boxes = torch.tensor(BOXES, dtype=torch.float32)
    labels = torch.tensor([1, 1, 2, 2, 1])
    objects = Objects(boxes, labels, boxes[:, 2], torch.tensor([0, 0, 0, 0, 1]))
    table = ImageTable.numbered(Path(), ["a", "b", "c"], [2, 3, 0], objects, [(100, 200)] * 3)
    upright = torch.zeros(3, dtype=torch.bool)
    return Contents("detection", ("cat", "dog", "owl"), table, upright)


def test_counts() -> None:
    facts = facts_of(contents(), [], None)
    assert (facts.images, facts.objects, facts.without_objects) == (3, 5, 1)
    assert facts.classes == {"cat": 3, "dog": 2, "owl": 0}
    assert facts.images_with == {"cat": 2, "dog": 1, "owl": 0}
    assert facts.marked == {"crowd or ignored": 1}
    assert (facts.learnable_images, facts.learnable_objects) == (1, 2)
    boxes = facts.boxes
    assert boxes is not None
    assert (boxes.outside, boxes.wholly_outside, boxes.empty) == (2, 1, 1)
    assert (boxes.small, boxes.large) == (0.8, 0.2)


@pytest.mark.parametrize(
    ("resize", "width", "height"),
    [
        (None, 15, 10),
        (Resize((300, 300)), 22.5, 30),
        (Resize(short=200), 30, 20),
        (Resize(short=200, long=300), 22.5, 15),
    ],
)
def test_boxes_are_measured_after_the_resizing(
    resize: Resize | None, width: float, height: float
) -> None:
    boxes = facts_of(contents(), [], resize).boxes
    assert boxes is not None
    assert boxes.widths is not None
    assert boxes.heights is not None
    assert (boxes.widths.median, boxes.heights.median) == (width, height)


def test_a_spread_of_equal_numbers_is_one_number() -> None:
    assert str(Spread.of(torch.tensor([3, 3, 3]))) == "3"
    assert str(Spread.of(torch.arange(101))) == "50 (5 to 95)"
    assert Spread.of(torch.zeros(0)) is None


def test_boxes_of_an_image_of_unknown_size_are_not_measured() -> None:
    """In YOLO's layout they are shares of an image that nobody can read."""
    found = contents()
    found.images.sizes[0] = 0
    boxes = facts_of(found, [], None).boxes
    assert boxes is not None
    assert boxes.widths == Spread.of(torch.tensor([20, 0.5, 100]))  # of the second image
