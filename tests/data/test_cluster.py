"""k-means of anchor shapes against a plain loop, and where the sizes of objects come from."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data import VOC, YOLO, Concatenated, Shapes, Split
from limbeck.data.annotated import AnnotatedImages
from limbeck.data.base import BadSampleError
from limbeck.data.cluster import cluster_shapes, mean_iou, object_sizes, shape_iou
from limbeck.data.table import AnnotatedImage, Objects
from tests.commands.starting.folders import yolo


def plain_iou(first, second):
    common = min(first[0], second[0]) * min(first[1], second[1])
    return common / (first[0] * first[1] + second[0] * second[1] - common)


def objects(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, generator=generator) * 90 + 4


def groups():
    """Three kinds of objects, well apart, with the first one in the majority."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.tensor([[10.0, 20.0]] * 80 + [[60.0, 50.0]] * 20 + [[150.0, 300.0]] * 10)
    return centres * (1 + 0.02 * torch.randn(len(centres), 2, generator=generator))


def test_iou_of_shapes():
    first, second = objects(7), objects(3, seed=1)
    found = shape_iou(first, second)
    expected = [[plain_iou(a, b) for b in second.tolist()] for a in first.tolist()]
    torch.testing.assert_close(found, torch.tensor(expected))
    best = sum(map(max, expected)) / 7
    assert mean_iou(first, second) == pytest.approx(best, rel=1e-5)


def test_finds_groups_in_the_order_of_their_areas():
    sizes = groups()
    found = cluster_shapes(sizes, 3)
    expected = torch.stack([part.mean(dim=0) for part in sizes.split([80, 20, 10])])
    torch.testing.assert_close(found, expected)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 6))
def test_every_cluster_is_the_mean_of_what_is_nearest_to_it(seed, count):
    sizes = objects(60, seed)
    shapes = cluster_shapes(sizes, count)
    nearest = [
        max(range(count), key=lambda k, size=size: plain_iou(size, shapes[k].tolist()))
        for size in sizes.tolist()
    ]
    for k in range(count):
        own = sizes[torch.tensor(nearest) == k]
        torch.testing.assert_close(shapes[k], own.mean(dim=0))


def test_the_same_again_whatever_the_random_state():
    first = cluster_shapes(objects(200), 5)
    torch.manual_seed(77)
    state = torch.get_rng_state()
    assert torch.equal(cluster_shapes(objects(200), 5), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_more_clusters_fit_better():
    sizes = objects(300)
    fits = [mean_iou(sizes, cluster_shapes(sizes, count)) for count in (1, 2, 4, 8)]
    assert fits == sorted(fits)
    assert fits[-1] > fits[0] + 0.2


def test_sizes_that_hardly_differ():
    """As scaling leaves them: in float32 their IoU is 1."""
    sizes = torch.tensor([[10.0, 10.0], [10.000001, 10.0], [10.0, 10.0]])
    assert cluster_shapes(sizes, 2).tolist() == sizes[:2].tolist()


def test_as_many_clusters_as_sizes_and_no_more():
    sizes = torch.tensor([[30.0, 40.0], [10.0, 10.0], [30.0, 40.0]])
    assert cluster_shapes(sizes, 2).tolist() == [[10.0, 10.0], [30.0, 40.0]]
    for count in (0, 3):
        with pytest.raises(ValueError, match=f"count={count}: 3 objects of 2 different sizes"):
            cluster_shapes(sizes, count)


# -- where sizes come from -------------------------------------------------------------------------


def annotated(tmp_path, training=True):
    """Two images that do not exist, one of 100 x 200 and one of 50 x 50, and a crowd."""
    boxes = torch.tensor([[0.0, 0.0, 20.0, 10.0], [180.0, 50.0, 260.0, 90.0], [0.0, 0.0, 9.0, 9.0]])
    crowd = torch.tensor([0, 0, 1])
    first = Objects(boxes, torch.ones(3).long(), torch.full((3,), 50.0), crowd)
    square = torch.tensor([[5.0, 5.0, 15.0, 30.0]])
    one = torch.ones(1)
    second = Objects(square, one.long(), 250 * one, 0 * one.long())
    images = [
        AnnotatedImage(tmp_path / "0.jpg", 0, (100, 200), first),
        AnnotatedImage(tmp_path / "1.jpg", 1, (50, 50), second),
    ]
    return AnnotatedImages(["thing"], images, source=tmp_path / "list.txt", training=training)


@pytest.mark.parametrize("training", [True, False])
def test_sizes_are_scaled_and_no_image_is_read(training, tmp_path):
    """Boxes are clipped, crowds left out, whether the dataset does so or not."""
    found = object_sizes(annotated(tmp_path, training), (200, 100))
    assert found.tolist() == [[10.0, 20.0], [10.0, 80.0], [20.0, 100.0]]


def test_parts_of_a_concatenated_set_are_not_read_either(tmp_path):
    part = annotated(tmp_path)
    found = object_sizes(Concatenated([part, part]), (200, 100))
    assert torch.equal(found, object_sizes(part, (200, 100)).repeat(2, 1))


def test_a_dataset_that_draws_its_images():
    data = Shapes(size=64, count=4)
    found = object_sizes(data, (128, 64))
    boxes = torch.cat([data[i][1]["boxes"] for i in range(4)])
    sides = torch.stack([boxes[:, 2] - boxes[:, 0], 2 * (boxes[:, 3] - boxes[:, 1])], dim=1)
    torch.testing.assert_close(found, sides)


def test_real_annotations(shared):
    """Helmets and heads, which are upright, in images that are lying."""
    root = shared / "data/voc_helmet/VOCdevkit/VOC2007"
    voc = VOC(root, split="train", training=True, classes=["helmet", "head"])
    found = object_sizes(voc, (416, 416))
    assert len(found) == sum(len(image.objects) for image in voc.images)
    shapes = cluster_shapes(found, 5)
    assert (shapes[:, 1] > shapes[:, 0]).all()
    assert mean_iou(found, shapes) == pytest.approx(0.691, abs=0.01)


def test_what_has_no_boxes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the dataset is for classification; expected one with"):
        object_sizes(Shapes("classification", count=2), (64, 64))


def test_a_side_of_a_split_is_not_read_either(tmp_path):
    part = annotated(tmp_path)
    halves = [Split(part, side, 0.5) for side in ("training", "held_out")]
    sizes = [object_sizes(half, (200, 100)) for half in halves]
    assert sorted(map(len, sizes)) == [1, 2]
    order = sorted(range(2), key=lambda side: halves[side].indices)
    assert torch.equal(torch.cat([sizes[side] for side in order]), object_sizes(part, (200, 100)))


def test_objects_of_an_image_that_cannot_be_read_are_left_out(tmp_path):
    yolo(tmp_path)
    whole = object_sizes(YOLO(tmp_path, "train", training=True), (64, 96))
    (tmp_path / "train/images/3.jpg").write_text("not an image")
    found = object_sizes(YOLO(tmp_path, "train", training=True), (64, 96))
    torch.testing.assert_close(found, torch.cat([whole[:3], whole[4:]]))
    sides = Concatenated(
        [Split(YOLO(tmp_path, "train", training=True), side) for side in ("training", "held_out")]
    )
    assert len(object_sizes(sides, (64, 96))) == len(found)


def test_a_dataset_that_draws_its_images_may_fail_at_some():
    class Damaged(Shapes):
        def __getitem__(self, index):
            if index == 1:
                raise BadSampleError("this one is damaged")
            return super().__getitem__(index)

    whole, damaged = Shapes(size=64, count=4), Damaged(size=64, count=4)
    left = len(object_sizes(whole, (64, 64))) - len(whole[1][1]["boxes"])
    assert len(object_sizes(damaged, (64, 64))) == left


def test_a_dataset_of_damaged_images_alone_is_refused(tmp_path, caplog):
    yolo(tmp_path)
    for path in (tmp_path / "train/images").iterdir():
        path.write_text("not an image")
    with pytest.raises(ValueError, match=r"no objects; .* Replace the images that cannot be read"):
        object_sizes(YOLO(tmp_path, "train", training=True), (64, 96))
    assert "8 images cannot be read, and their objects are left out" in caplog.text
