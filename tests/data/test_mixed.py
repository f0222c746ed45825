import pickle
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2.functional import to_pil_image

from limbeck.data import (
    ClassificationAugmentation,
    DetectionAugmentation,
    Images,
    Shapes,
    ShuffleDetAugmentation,
)
from limbeck.data.mixed import MixedBatches, Unlabelled, UnlabelledBatches
from limbeck.data.sampling import Draw, Place, ShuffledBatches


def order(share, *, labelled=20, unlabelled=30, rank=0, world_size=1, batch_size=3):
    processes = {"rank": rank, "world_size": world_size}
    sets = [
        ShuffledBatches(count, batch_size, seed=seed, **processes)
        for seed, count in enumerate((labelled, unlabelled))
    ]
    return MixedBatches(*sets, share)


def epochs(batches, count):
    return [batch for epoch in range(count) for batch in batches.draws(epoch)]


def kinds(batches):
    return [batch[0].unlabelled for batch in batches]


@settings(max_examples=60)
@given(
    share=st.floats(0.01, 1.0),
    labelled=st.integers(4, 30),
    unlabelled=st.integers(4, 30),
    world_size=st.integers(1, 2),
)
def test_both_sets_in_proportion_and_each_image_in_its_turn(
    share, labelled, unlabelled, world_size
):
    ranks = [
        order(share, labelled=labelled, unlabelled=unlabelled, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    found = [epochs(each, 4) for each in ranks]
    assert {len(each) for each in found} == {4 * len(ranks[0])} == {4 * len(ranks[0].labelled)}
    assert all(kinds(each) == kinds(found[0]) for each in found)
    for epoch in range(1, 5):
        some = sum(kinds(found[0][: epoch * len(ranks[0])]))
        assert abs(some - share * epoch * len(ranks[0])) <= 0.5
    for unlabelled_ones, own in ((False, ranks[0].labelled), (True, ranks[0].unlabelled)):
        draws = [
            draw
            for each in found
            for batch in each
            if batch[0].unlabelled == unlabelled_ones
            for draw in batch
        ]
        assert len(set(draws)) == len(draws)  # none twice before its set was gone through
        passes = Counter(draw.epoch for draw in draws)
        whole = len(own) * own.batch_size * world_size
        assert all(passes[number] == whole for number in range(len(passes) - 1))


def test_order_goes_by_seed_and_epoch_alone_and_changes_with_them():
    first, second = (list(order(0.5).draws(2)) for _ in range(2))
    assert first == second
    assert kinds(order(0.5).draws(2)) != kinds(order(0.5).draws(3))


def test_resumed_in_the_middle_of_an_epoch_it_goes_on_as_it_would_have():
    through, resumed = order(0.4), order(0.4)
    whole = [batch for _ in range(3) for batch in through]
    resumed.start_at(Place(1, 4, 0))
    assert list(resumed) == whole[len(through) + 4 : 2 * len(through)]


def test_a_checkpoint_of_another_mixture_is_known():
    states = [order(0.5), order(0.6), order(0.5, unlabelled=31)]
    assert len({str(each.depends_on()) for each in states}) == 3


def test_labelled_images_alone_are_those_without_a_mixture():
    alone = ShuffledBatches(20, 3, seed=0)
    with_others = [batch for batch in epochs(order(0.5), 4) if not batch[0].unlabelled]
    assert with_others == list(islice(epochs(alone, 4), len(with_others)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, (image, _) in enumerate(Shapes(count=3, size=40)):
        to_pil_image(image).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize(
    "augmentation",
    [
        DetectionAugmentation(short_sides=(32,), long_side=64, jitter=0.2, photometric=0.5),
        DetectionAugmentation(size=(32, 48), zoom_out=1.0, iou_crop=True, vertical_flip=1.0),
        DetectionAugmentation(sizes=((32, 32), (48, 48))),
        ShuffleDetAugmentation(size=(32, 64), drift=(8, 8)),
        ClassificationAugmentation(size=32, jitter=0.1),
    ],
    ids=lambda augmentation: f"{augmentation.task}",
)
def test_every_augmentation_takes_images_without_labels(folder, augmentation):
    batches = UnlabelledBatches(
        Unlabelled(Images(folder), augmentation.task),
        augmentation.training(),
        augmentation.training_batch(),
    )
    batch = batches[[Draw(epoch, image) for epoch in range(8) for image in range(3)]]
    assert batch.targets is None
    assert len(batch.images) == 24
    assert all(image.shape[0] == 3 for image in batch.images)


def test_a_batch_without_labels_comes_from_a_worker_as_it_is(folder):
    untold = Unlabelled(Images(folder), "detection")
    batch = UnlabelledBatches(untold, DetectionAugmentation().training())[[Draw(0, 0), Draw(0, 1)]]
    sent = pickle.loads(pickle.dumps(batch))
    assert sent.targets is None
    assert all(map(torch.equal, sent.images, batch.images))


def test_sizes_are_read_without_decoding(folder):
    assert Unlabelled(Images(folder), "detection").image_size(2) == (40, 40)
