import io
import pickle
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from limbeck.data import DetectionAugmentation, Shapes
from limbeck.data.loading import AugmentedBatches, ClassificationBatch, DetectionBatch
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


@pytest.mark.parametrize("dataset", [Shapes(count=4), Mixed(count=4)], ids=["alike", "mixed"])
def test_batches_survive_the_way_from_a_worker(dataset):
    batch = batches_of(dataset)[DRAWS]
    stream = io.BytesIO()
    ForkingPickler(stream).dump(batch)
    received = pickle.loads(stream.getvalue())
    assert isinstance(received, DetectionBatch)
    assert [image.shape for image in received.images] == [image.shape for image in batch.images]
    assert all(map(torch.equal, received.images, batch.images))
    for target, expected in zip(received.targets, batch.targets, strict=True):
        assert target.keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) for key, value in target.items())
        assert all(value.dtype == expected[key].dtype for key, value in target.items())


def test_batches_are_tuples():
    images, targets = ClassificationBatch(torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]))
    assert len(images) == len(targets)


def test_what_a_worker_needs_can_be_pickled():
    batches = batches_of(Shapes(count=4), DetectionAugmentation(short_sides=(64,)).training())
    again = pickle.loads(pickle.dumps(batches))
    assert torch.equal(again[DRAWS].images[0], batches[DRAWS].images[0])
