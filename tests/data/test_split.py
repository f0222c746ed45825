"""A dataset that is divided at random: both sides are complementary, and repeat."""

import pytest
import torch

from limbeck.data import Shapes, Split


def test_both_sides_are_the_dataset_and_share_nothing() -> None:
    whole = Shapes(count=10, size=32)
    training, held_out = (
        Split(whole, side, share=0.3, seed=4) for side in ("training", "held_out")
    )
    assert (len(training), len(held_out)) == (7, 3)
    assert sorted(training.indices + held_out.indices) == list(range(10))
    assert training.indices == sorted(training.indices)
    assert (held_out.task, held_out.classes) == (whole.task, whole.classes)
    for own, index in enumerate(held_out.indices):
        image, target = held_out[own]
        assert torch.equal(image, whole[index][0])
        assert target["image_id"] == index
        assert held_out.image_size(own) == (32, 32)
    with pytest.raises(IndexError):
        held_out[3]


def test_the_seed_decides_the_side_of_an_image() -> None:
    whole = Shapes("classification", count=50, size=32)
    held_out = [Split(whole, "held_out", seed=seed).indices for seed in (0, 0, 1)]
    assert held_out[0] == held_out[1] != held_out[2]


@pytest.mark.parametrize(("count", "share"), [(2, 0.01), (2, 0.99), (3, 0.9)])
def test_each_side_has_an_image(count: int, share: float) -> None:
    whole = Shapes(count=count, size=32)
    sides = [Split(whole, side, share) for side in ("training", "held_out")]
    assert all(sides)
    assert sum(map(len, sides)) == count


def test_what_makes_no_split_is_refused() -> None:
    whole = Shapes(count=4, size=32)
    with pytest.raises(ValueError, match="side is 'test'; expected training or held_out"):
        Split(whole, "test")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="share is 1"):
        Split(whole, share=1.0)
    with pytest.raises(ValueError, match="dataset has 1 images; expected two or more"):
        Split(Shapes(count=1, size=32))
