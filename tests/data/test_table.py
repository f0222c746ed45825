"""The images of a dataset in tensors, which loading workers share."""

from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch

from limbeck.data.table import AnnotatedImage, ImageTable, Objects, Texts

NAMES = ["a.jpg", "", "ä/\U0001f600.png", "\udcff.jpg", "\ud800", "a b.jpg"]


def objects(count: int) -> Objects:
    """Objects of 10 x 20 pixels, each a pixel further than the last."""
    corners = torch.arange(count, dtype=torch.float32)[:, None]
    boxes = torch.cat([corners, corners, corners + 10, corners + 20], dim=1)
    none = torch.zeros(count, dtype=torch.int64)
    return Objects(boxes, none + 1, torch.full((count,), 200.0), none, {"mark": none > 0})


def table() -> ImageTable:
    """Three images of two, none and three objects, the last of which is 15 pixels wide."""
    sizes = [None, (40, 50), (40, 15)]
    return ImageTable.numbered(Path("f"), ["a", "b", "c"], [2, 0, 3], objects(5), sizes)


def test_texts_come_back_whatever_they_hold() -> None:
    texts = Texts.of(NAMES)
    assert [texts[i] for i in range(len(texts))] == list(texts) == NAMES
    assert list(Texts.of([])) == []


def test_each_image_has_its_objects() -> None:
    found = table()
    assert [image.path for image in found] == list(found.paths()) == [Path(f"f/{n}") for n in "abc"]
    assert [image.size for image in found] == [None, (40, 50), (40, 15)]
    assert [image.objects.boxes[:, 0].tolist() for image in found] == [[0, 1], [], [2, 3, 4]]
    assert [len(image.objects.attributes["mark"]) for image in found] == [2, 0, 3]
    assert [found.image_of(row) for row in range(5)] == [0, 0, 2, 2, 2]
    assert found.counts().tolist() == [2, 0, 3]


def test_images_are_counted_from_both_ends() -> None:
    found = table()
    assert found[-1].path == found[2].path
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"image {index} of 3"):
            found[index]


def test_images_that_are_joined_are_the_same() -> None:
    images = [
        AnnotatedImage(Path("/x/a.jpg"), 7, (40, 50), objects(2)),
        AnnotatedImage(Path("y/b.jpg"), 3, None, objects(1)),
    ]
    for one, other in zip(images, ImageTable.joined(images), strict=True):
        assert (one.path, one.image_id, one.size) == (other.path, other.image_id, other.size)
        assert torch.equal(one.objects.boxes, other.objects.boxes)


def test_the_objects_to_learn_from_are_those_of_each_image() -> None:
    whole = table()
    for keep, expected in ((True, ["a", "b", "c"]), (False, ["a", "c"])):
        found = whole.learnable(keep_images_without_objects=keep)
        assert [path.name for path in found.paths()] == expected
        for image in found:
            before = whole["abc".index(image.path.name)]
            own = before.objects.learnable(before.size)
            assert torch.equal(image.objects.boxes, own.boxes)
            assert torch.equal(image.objects.area, own.area)
            assert (image.image_id, image.size) == (before.image_id, before.size)


def test_a_worker_that_is_not_forked_shares_the_memory() -> None:
    names = [f"{number:012}.jpg" for number in range(5000)]
    large = ImageTable.numbered(Path("f"), names, [2] * 5000, objects(10_000))
    assert len(ForkingPickler.dumps(large)) < 10_000
    assert large.objects.boxes.is_shared()
    assert large.names.content.is_shared()
