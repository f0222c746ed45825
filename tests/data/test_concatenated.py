import pytest
import torch

from limbeck.data import Concatenated, Shapes


def test_one_after_the_other():
    first, second = Shapes(count=3, size=32, seed=0), Shapes(count=2, size=48, seed=1)
    both = Concatenated([first, second])
    assert (len(both), both.task, both.classes) == (5, "detection", first.classes)
    images = [both[i][0] for i in range(5)]
    assert torch.equal(images[2], first[2][0])
    assert torch.equal(images[3], second[0][0])
    assert torch.equal(images[4], both[-1][0])
    assert [both[i][1]["image_id"].item() for i in (*range(5), -1)] == [0, 1, 2, 3, 4, 4]
    assert torch.equal(both[4][1]["boxes"], second[1][1]["boxes"])
    assert [both.image_size(i) for i in range(5)] == [(32, 32)] * 3 + [(48, 48)] * 2
    with pytest.raises(IndexError):
        both[5]


def test_of_classes():
    pair = [Shapes("classification", count=2, size=32, seed=seed) for seed in (0, 1)]
    both = Concatenated(pair)
    assert both.task == "classification"
    assert both[3][1] == pair[1][1][1]


def test_what_does_not_belong_together():
    other = Shapes(count=2, size=32, seed=0)
    other.classes = ("square",)
    with pytest.raises(
        ValueError, match=r"datasets\[1\] is for detection, of square; datasets\[0\]"
    ):
        Concatenated([Shapes(count=2, size=32, seed=0), other])
    with pytest.raises(ValueError, match="datasets is empty"):
        Concatenated([])
