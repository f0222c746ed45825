import math

import numpy as np
import pytest
import torch

from limbeck.data import Shapes
from limbeck.data.shapes import CONTRAST, SHAPES, paint, shape_mask


def test_an_image_is_a_function_of_seed_and_index():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    image, target = Shapes(count=10, seed=3)[7]
    state = torch.get_rng_state()
    np.random.seed(2)  # noqa: NPY002
    again, same = Shapes(count=10**9, seed=3)[7]
    assert torch.equal(image, again)
    assert torch.equal(target["boxes"], same["boxes"])
    assert torch.equal(state, torch.get_rng_state())
    for other in (Shapes(seed=3)[8][0], Shapes(seed=4)[7][0]):
        assert (image.int() - other.int()).abs().float().mean() > 20


def test_golden_image():
    image, target = Shapes(seed=0)[0]
    assert image.shape == (3, 96, 96)
    assert image.dtype == torch.uint8
    assert target["image_id"].item() == 0
    boxes = [[42, 49, 83, 90], [33, 3, 68, 38], [13, 43, 28, 58], [9, 1, 22, 14]]
    assert target["boxes"].tolist() == boxes
    assert target["labels"].tolist() == [5, 2, 3, 2]
    assert image.float().mean().item() == pytest.approx(125.1, abs=0.5)


@pytest.fixture(scope="module")
def targets():
    dataset = Shapes(count=300, seed=5)
    return [dataset[index][1] for index in range(300)]


def test_objects_are_apart_and_inside(targets):
    for target in targets:
        boxes = target["boxes"].as_subclass(torch.Tensor)
        assert 1 <= len(boxes) <= 5
        assert boxes.min() >= 0
        assert boxes.max() <= 96
        sides = boxes[:, 2:] - boxes[:, :2]
        assert torch.equal(sides[:, 0], sides[:, 1])
        assert torch.equal(target["area"], sides.prod(1))
        assert torch.equal(target["iscrowd"], torch.zeros(len(boxes), dtype=torch.int64))
        corners = torch.maximum(boxes[:, None, :2], boxes[:, :2])
        overlap = (torch.minimum(boxes[:, None, 2:], boxes[:, 2:]) - corners).clamp(min=0).prod(2)
        assert torch.equal(overlap, torch.diag(target["area"]))


def test_counts_sizes_and_classes_are_spread(targets):
    boxes = torch.cat([target["boxes"].as_subclass(torch.Tensor) for target in targets])
    sides = boxes[:, 2] - boxes[:, 0]
    assert (sides.min(), sides.max()) == (12, 44)
    assert sides.log().mean().exp().item() == pytest.approx(math.sqrt(12 * 44), rel=0.06)
    counts = torch.bincount(torch.tensor([len(target["boxes"]) for target in targets]))
    assert counts[1:].min() > 30
    labels = torch.cat([target["labels"] for target in targets]).bincount()
    assert labels[0] == 0
    assert labels[1:].float().div(len(boxes)).sub(0.2).abs().max() < 0.05


@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_are_tight(shape):
    for side in range(12, 45):
        mask = shape_mask(shape, side)
        assert mask.shape == (side, side)
        assert mask[0].any()
        assert mask[-1].any()
        assert mask[:, 0].any()
        assert mask[:, -1].any()


@pytest.mark.parametrize(
    ("shape", "share"),
    [("circle", math.pi / 4), ("square", 1), ("triangle", 0.5), ("ring", 0.55), ("cross", 0.59)],
)
def test_shapes_cover_their_share_of_the_box(shape, share):
    assert shape_mask(shape, 44).mean() == pytest.approx(share, abs=0.025)
    assert (shape_mask(shape, 44)[:, ::-1] == shape_mask(shape, 44)).all()


def test_colours_differ_from_the_ground():
    solid = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        ground = np.broadcast_to(rng.random(3, dtype=np.float32), (20, 20, 3)).copy()
        before = ground.copy()
        mask = shape_mask("ring", 20)
        paint(rng, ground, mask)
        assert (ground[~mask] == before[~mask]).all()
        colours = np.unique(ground[mask], axis=0)
        if len(colours) == 1:
            solid += 1
            assert np.abs(colours[0] - before[0, 0]).sum() >= CONTRAST
        else:
            assert len(colours) == 2
    assert 20 <= solid <= 40  # the others are striped


def test_classification_has_one_object_and_no_boxes():
    dataset = Shapes("classification", count=100, seed=2)
    labels = torch.stack([dataset[index][1] for index in range(100)])
    assert labels.dtype == torch.int64
    assert labels.bincount(minlength=5).min() > 8
    assert labels.max() == 4


def test_other_sizes_and_the_end():
    dataset = Shapes(size=32, count=3)
    image, target = dataset[2]
    assert image.shape == (3, 32, 32)
    assert target["boxes"].canvas_size == dataset.image_size(2) == (32, 32)
    for read in (dataset.__getitem__, dataset.image_size):
        with pytest.raises(IndexError, match="index 3 of a set of 3"):
            read(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "segmentation"}, "task is 'segmentation'"),
        ({"size": 20}, "size is 20"),
        ({"size": 10**6}, "size is 1000000"),
        ({"count": 10**12}, "count is 1000000000000"),
        ({"count": 0}, "count is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Shapes(**arguments)
