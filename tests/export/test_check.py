"""What is NaN in a file is found, wherever it is, and a file is compared in pieces of its batch."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from limbeck.export import Checked, Tolerance
from limbeck.export.check import batches, check_classifier, check_dense, check_detector
from limbeck.export.rounded import agreement
from limbeck.exported.framing import Framing
from tests.exported.files import CLASSIFIER, DETECTOR, giving

NAN = float("nan")
TOLERANCE = Tolerance().settled(half=False)
IMAGES = [torch.rand(3, 4, 4), torch.rand(3, 4, 4)]
BOXES = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 4.0, 4.0]]])
SCORES = torch.tensor([[0.9, 0.8]])
LABELS = torch.tensor([[1, 2]])
COLUMNS = torch.tensor([[[0.9, 0.0, 0.0], [0.0, 0.8, 0.0]]])


class Finding(nn.Module):
    """A detector that finds the same on each image."""

    takes_list = True

    def forward(self, images):
        assert isinstance(images, list)
        found = {"boxes": BOXES[0], "scores": SCORES[0], "labels": LABELS[0]}
        return [found for _ in images]


class Dense(nn.Module):
    """The same before suppression."""

    def forward(self, batch):
        return BOXES.expand(len(batch), -1, -1), COLUMNS.expand(len(batch), -1, -1)


class Logits(nn.Module):
    """A classifier with the same logits for each image."""

    def forward(self, batch):
        return torch.tensor([[1.0, 2.0, 3.0]]).expand(len(batch), -1)


def changed(values, *index):
    """The values with a NaN at one place."""
    values = values.clone()
    values[index] = NAN
    return values


@pytest.mark.parametrize("first", [0.0, NAN])
@pytest.mark.parametrize("name", ["boxes", "scores"])
def test_the_sum_of_two_checks_keeps_a_nan(first, name):
    both = Checked(1, **{name: first}) + Checked(1, **{name: 0.0 if first else NAN})
    assert not (Checked(0) + both + Checked(1)).within(TOLERANCE)


@pytest.mark.parametrize("place", [0, 1])
def test_a_nan_among_detections_is_found(place, tmp_path, monkeypatch):
    model = Finding()

    def check(*outputs):
        exported = giving(outputs, DETECTOR, tmp_path, monkeypatch)
        both = check_detector(model, exported, IMAGES, TOLERANCE).within(TOLERANCE)
        assert agreement(model, exported, IMAGES).near == both
        return both

    assert check(BOXES, SCORES, LABELS)
    assert not check(changed(BOXES, 0, place, 3), SCORES, LABELS)
    assert not check(BOXES, changed(SCORES, 0, place), LABELS)
    further = [torch.cat([each, each[:, :1]], dim=1) for each in (BOXES, SCORES, LABELS)]
    further[0][0, 2], further[1][0, 2] = torch.tensor([1.0, 1.0, 2.0, 2.0]), NAN
    assert not check(*further)  # a detection that PyTorch does not have


@pytest.mark.parametrize("place", [0, 1])
def test_a_nan_before_suppression_is_found(place, tmp_path, monkeypatch):
    described = replace(DETECTOR, post_processing="dense", outputs=("boxes", "scores"))

    def check(*outputs):
        exported = giving(outputs, described, tmp_path, monkeypatch)
        return check_dense(Dense(), exported, IMAGES).within(TOLERANCE)

    assert check(BOXES, COLUMNS)
    assert not check(changed(BOXES, 0, place, 0), COLUMNS)
    assert not check(BOXES, changed(COLUMNS, 0, place, 2))


def test_a_nan_among_logits_is_found(tmp_path, monkeypatch):
    logits = Logits()(IMAGES[:1])
    for given, right in ((logits, True), (changed(logits, 0, 1), False)):
        exported = giving([given], CLASSIFIER, tmp_path, monkeypatch)
        assert check_classifier(Logits(), exported, IMAGES).within(TOLERANCE) == right
        assert agreement(Logits(), exported, IMAGES).near == right


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"batch": 1}, [1, 1, 1, 1, 1]),
        ({"batch": 4}, [4, 1]),
        ({"batch": None}, [2, 2, 1]),
        ({"batch": None, "framing": Framing("shorter_side", None, 1, 4, 9)}, [1, 1, 1, 1, 1]),
    ],
)
def test_pytorch_sees_no_more_images_at_once_than_the_file(
    changes, expected, tmp_path, monkeypatch
):
    described = replace(DETECTOR, **changes)
    exported = giving([BOXES, SCORES, LABELS], described, tmp_path, monkeypatch)
    images = [torch.rand(3, 4, 4) for _ in range(5)]
    assert [len(batch) for batch in batches(exported, images)] == expected
    found = check_detector(Finding(), exported, images, TOLERANCE)
    assert (found.images, found.detections) == (5, 10)
