import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data.sampling import (
    Draw,
    Place,
    ShuffledBatches,
    evaluation_batches,
    rank_and_world_size,
    sample_seed,
)


def images(batches):
    return [[draw.image for draw in batch] for batch in batches]


@settings(max_examples=80)
@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 4),
    groups=st.none() | st.integers(0, 2**16),
    epoch=st.integers(0, 3),
)
def test_epochs_of_all_processes(count, batch_size, world_size, groups, epoch):
    if count < world_size:
        return
    if groups is not None:
        groups = [groups >> (i % 17) & 1 for i in range(count)]
    samplers = [
        ShuffledBatches(count, batch_size, groups=groups, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    of_ranks = [sampler.batches(epoch).tolist() for sampler in samplers]
    size = min(batch_size, count // world_size)
    assert {len(batches) for batches in of_ranks} == {count // size // world_size}
    assert {len(sampler) for sampler in samplers} == {len(of_ranks[0])}
    batches = [batch for batches in of_ranks for batch in batches]
    assert {len(batch) for batch in batches} == {size}
    seen = [image for batch in batches for image in batch]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(range(count))
    assert count - len(seen) < size * world_size
    if groups is not None:
        mixed = [batch for batch in batches if len({groups[image] for image in batch}) > 1]
        assert len(mixed) <= 1


def test_order_depends_on_seed_and_epoch_alone():
    first = ShuffledBatches(50, 5, seed=1)
    assert torch.equal(first.batches(3), ShuffledBatches(50, 5, seed=1).batches(3))
    assert not torch.equal(first.batches(3), first.batches(4))
    assert not torch.equal(first.batches(3), ShuffledBatches(50, 5, seed=2).batches(3))


def test_images_that_rest_change_from_epoch_to_epoch():
    sampler = ShuffledBatches(10, 4, groups=[0] * 5 + [1] * 5)
    resting = {frozenset(range(10)) - set(sampler.batches(e).flatten().tolist()) for e in range(40)}
    assert frozenset().union(*resting) == set(range(10))


def test_each_iteration_is_the_next_epoch():
    sampler = ShuffledBatches(6, 2)
    for epoch in range(3):
        batches = list(sampler)
        assert {draw.epoch for batch in batches for draw in batch} == {epoch}
        assert images(batches) == sampler.batches(epoch).tolist()


def test_an_iteration_that_is_not_read_is_no_epoch():
    sampler = ShuffledBatches(6, 2)
    iter(sampler), iter(sampler)
    assert next(iter(sampler))[0].epoch == 0
    assert next(iter(sampler))[0].epoch == 1  # the one before was left in its middle


@pytest.mark.parametrize("position", range(4))
def test_an_iteration_goes_on_where_it_is_told(position):
    sampler = ShuffledBatches(7, 2, seed=4)
    sampler.start_at(Place(epoch=2, position=position, trainer_epoch=0))
    assert sampler.upcoming() == (2, position, 0)
    assert images(sampler) == sampler.batches(2)[position:].tolist()
    assert sampler.upcoming() == (3, 0, 0)
    assert images(sampler) == sampler.batches(3).tolist()


def test_the_trainer_says_where_a_run_begins():
    sampler = ShuffledBatches(6, 2)
    sampler.set_epoch(5)
    assert next(iter(sampler))[0].epoch == 5
    sampler.set_epoch(9)  # it counted wrong: the run has begun
    assert next(iter(sampler))[0].epoch == 6


@pytest.mark.parametrize(("trainer_epoch", "expected"), [(0, (0, 1)), (1, (1, 0))])
def test_a_restored_epoch_ends_where_the_trainer_left_it(trainer_epoch, expected):
    sampler = ShuffledBatches(6, 2)
    sampler.start_at(Place(epoch=0, position=1, trainer_epoch=0))
    sampler.set_epoch(trainer_epoch)
    epoch, position = expected
    batch = next(iter(sampler))
    assert images([batch])[0] == sampler.batches(epoch)[position].tolist()


def test_small_sets():
    assert images(ShuffledBatches(1, 16)) == [[0]]
    with pytest.raises(ValueError, match="3 training images are not enough for 4 processes"):
        ShuffledBatches(3, 16, world_size=4)


@given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 5))
def test_evaluation_sees_every_image_once(count, batch_size, world_size):
    of_ranks = [
        evaluation_batches(count, batch_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    seen = [draw for batches in of_ranks for batch in batches for draw in batch]
    assert sorted(seen) == [Draw(0, image) for image in range(count)]
    assert all(len(batch) <= batch_size for batches in of_ranks for batch in batches)


def test_evaluation_keeps_the_order():
    assert images(evaluation_batches(5, 2)) == [[0, 1], [2, 3], [4]]


def test_seeds_of_places_differ():
    places = [(), (0,), (0, 0), (1,), (0, 1), (1, 0), (1, 1)]
    seeds = {sample_seed(seed, *place) for seed in (0, 1) for place in places}
    assert len(seeds) == 14


def test_one_process_without_distributed():
    assert rank_and_world_size() == (0, 1)
