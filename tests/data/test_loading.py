import io
import pickle
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from limbeck.data import DetectionAugmentation, Shapes
from limbeck.data.augmentation import unchanged
from limbeck.data.base import BadSampleError
from limbeck.data.loading import AugmentedBatches, ClassificationBatch, DetectionBatch, scaled
from limbeck.data.sampling import Draw

DRAWS = [Draw(0, 3), Draw(0, 1)]


def batches_of(dataset, transform=None, seed=0):
    return AugmentedBatches(dataset, transform or v2.ToDtype(torch.float32, scale=True), seed=seed)


def test_detection_batches_are_plain_tensors():
    dataset = Shapes(count=4)
    images, targets = batches_of(dataset)[DRAWS]
    assert isinstance(images, list)
    assert all(type(image) is torch.Tensor for image in images)
    assert all(type(value) is torch.Tensor for target in targets for value in target.values())
    for draw, image, target in zip(DRAWS, images, targets, strict=True):
        expected, of_dataset = dataset[draw.image]
        assert torch.equal(image, F.to_dtype(expected, torch.float32, scale=True))
        assert target.keys() == of_dataset.keys()
        assert all(torch.equal(value, of_dataset[key]) for key, value in target.items())


def test_a_text_in_a_target_is_refused_by_its_name():
    class Named(Shapes):
        def __getitem__(self, index):
            image, target = super().__getitem__(index)
            return image, target | {"file_name": "a.jpg"}

    with pytest.raises(ValueError, match="'file_name', which is a str; expected tensors"):
        batches_of(Named(count=8))[DRAWS]


def test_classification_batches_are_stacked():
    images, targets = batches_of(Shapes("classification", count=4))[DRAWS]
    assert type(images) is torch.Tensor
    assert images.shape == (2, 3, 96, 96)
    assert targets.tolist() == [Shapes("classification", count=4)[i][1].item() for i in (3, 1)]


class Mixed(Shapes):
    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return image[:, index:], target


def test_classification_needs_one_size():
    with pytest.raises(ValueError, match=r"\[\(93, 96\), \(95, 96\)\].*ClassificationAugmentation"):
        batches_of(Mixed("classification", count=4))[DRAWS]


def sample(seed=0, draw=DRAWS[0], company=()):
    batches = batches_of(Shapes(count=4), DetectionAugmentation(photometric=1.0).training(), seed)
    return batches[[*company, draw]][0][-1]


def test_augmentation_depends_on_seed_epoch_and_image_alone():
    expected = sample()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert torch.equal(sample(company=DRAWS[1:]), expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(sample(draw=Draw(1, 3)), expected)
    assert not torch.equal(sample(seed=1), expected)


def test_one_size_a_batch_depends_on_seed_epoch_and_draws_alone():
    augmentation = DetectionAugmentation(sizes=tuple((side, 32) for side in range(20, 60)))
    transforms = augmentation.training(), augmentation.training_batch()

    def sizes(draws, seed=0):
        images, targets = AugmentedBatches(Shapes(count=4), *transforms, seed=seed)[draws]
        assert all(type(value) is torch.Tensor for target in targets for value in target.values())
        return [tuple(image.shape[1:]) for image in images]

    (size,) = set(sizes(DRAWS))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert sizes(DRAWS) == [size, size]
    assert torch.equal(torch.get_rng_state(), state)
    others = {
        sizes(DRAWS, seed=1)[0],
        sizes(DRAWS[::-1])[0],
        sizes([Draw(1, draw.image) for draw in DRAWS])[0],
    }
    assert len(others | {size}) == 4


def sent(batch):
    stream = io.BytesIO()
    ForkingPickler(stream).dump(batch)
    return pickle.loads(stream.getvalue())


@pytest.mark.parametrize("dataset", [Shapes(count=4), Mixed(count=4)], ids=["alike", "mixed"])
@pytest.mark.parametrize("transform", [None, unchanged], ids=["float32", "uint8"])
def test_batches_survive_the_way_from_a_worker(dataset, transform):
    batch = batches_of(dataset, transform)[DRAWS]
    received = sent(batch)
    assert isinstance(received, DetectionBatch)
    assert {image.dtype for image in received.images} == {batch.images[0].dtype}
    assert [image.shape for image in received.images] == [image.shape for image in batch.images]
    assert all(map(torch.equal, received.images, batch.images))
    for target, expected in zip(received.targets, batch.targets, strict=True):
        assert target.keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) for key, value in target.items())
        assert all(value.dtype == expected[key].dtype for key, value in target.items())


def test_targets_of_types_that_numpy_lacks_survive_the_way_from_a_worker():
    image, boxes = torch.zeros(3, 4, 4, dtype=torch.uint8), torch.rand(2, 4).bfloat16()
    batch = DetectionBatch([image], [{"boxes": boxes, "labels": torch.arange(2)}])
    (target,) = sent(batch).targets
    assert torch.equal(target["boxes"], boxes)
    assert torch.equal(target["labels"], torch.arange(2))


def test_images_of_a_batch_lie_in_one_piece_of_shared_memory():
    batch = batches_of(Mixed(count=4), unchanged)[DRAWS]
    received = sent(batch)
    assert len({image.untyped_storage().data_ptr() for image in received.images}) == 1
    assert received.images[0].is_shared()
    assert received.images[0].untyped_storage().nbytes() == sum(i.numel() for i in batch.images)
    assert not batch.images[0].is_shared()  # what a transform keeps is its own


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_images_are_scaled_by_the_arithmetic_of_torchvision(task):
    dataset = Shapes(task, count=4)
    images = scaled(batches_of(dataset, unchanged)[DRAWS].images)
    for image, draw in zip(images, DRAWS, strict=True):
        expected = F.to_dtype(dataset[draw.image][0], torch.float32, scale=True)
        assert torch.equal(image, expected)
        assert image.is_contiguous()
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(scaled(every), F.to_dtype_image(every, torch.float32, scale=True))


def test_images_that_are_floats_are_taken_as_they_are():
    halves = torch.rand(3, 4, 5).half()
    assert torch.equal(scaled(halves), halves)
    assert scaled([halves])[0].dtype == torch.float16


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_a_batch_may_have_bytes_and_floats(task):
    turns = iter([unchanged, v2.ToDtype(torch.float32, scale=True)])
    dataset = Shapes(task, count=4)
    expected = scaled(batches_of(dataset, unchanged)[DRAWS].images)
    images = batches_of(dataset, lambda *sample: next(turns)(*sample))[DRAWS].images
    assert all(map(torch.equal, images, expected))


def test_batches_are_tuples():
    images, targets = ClassificationBatch(torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]))
    assert len(images) == len(targets)


def test_what_a_worker_needs_can_be_pickled():
    batches = batches_of(Shapes(count=4), DetectionAugmentation(short_sides=(64,)).training())
    again = pickle.loads(pickle.dumps(batches))
    assert torch.equal(again[DRAWS].images[0], batches[DRAWS].images[0])


class Holes(Shapes):
    """Some images cannot be read."""

    holes = (1, 2, 5)

    def __getitem__(self, index):
        if index in self.holes:
            raise BadSampleError(f"{index}.jpg: not a readable image")
        return super().__getitem__(index)


def flags():
    return torch.zeros(6, dtype=torch.bool)


def draws(*images):
    return [Draw(0, image) for image in images]


def ids(batch):
    return [target["image_id"].item() for target in batch.targets]


def test_a_bad_sample_is_an_error():
    with pytest.raises(BadSampleError, match=r"2\.jpg: .* or give .* on_bad_sample='skip'"):
        batches_of(Holes(count=6))[draws(0, 2)]


def test_the_next_good_sample_comes_in_place_of_a_bad_one():
    bad = flags()
    batches = AugmentedBatches(Holes(count=6), v2.ToDtype(torch.float32), bad=bad, replace=True)
    assert ids(batches[draws(4, 1, 5)]) == [4, 3, 0]
    assert bad.nonzero()[:, 0].tolist() == [1, 2, 5]


def test_a_replacement_is_augmented_for_itself():
    transform = DetectionAugmentation(photometric=1.0, flip=0.0).training()
    batches = AugmentedBatches(Holes(count=6), transform, bad=flags(), replace=True)
    first, second, again = (batches[draws(image)].images[0] for image in (1, 2, 3))
    assert not torch.equal(first, second)
    assert not torch.equal(second, again)
    assert torch.equal(batches[draws(1)].images[0], first)


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_bad_samples_are_left_out_of_evaluation(task):
    bad = flags()
    batches = AugmentedBatches(Holes(task, count=6), v2.ToDtype(torch.float32), bad=bad)
    assert len(batches[draws(0, 1)].images) == 1
    assert batches[draws(1, 2)] is None
    assert bad.nonzero()[:, 0].tolist() == [1, 2]


def test_a_set_of_bad_samples_ends():
    dataset = Holes(count=6)
    dataset.holes = range(6)
    batches = AugmentedBatches(dataset, v2.ToDtype(torch.float32), bad=flags(), replace=True)
    with pytest.raises(BadSampleError, match=r"none of the 6 images is a good sample: 3\.jpg"):
        batches[draws(4)]


def test_only_bad_samples_are_skipped():
    class Mistaken(Shapes):
        def __getitem__(self, index):
            raise ValueError("a mistake")

    batches = AugmentedBatches(Mistaken(count=6), v2.ToDtype(torch.float32), bad=flags())
    with pytest.raises(ValueError, match="a mistake"):
        batches[draws(0)]
