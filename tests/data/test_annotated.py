"""What the datasets of image files with boxes share, without a layout of files."""

from contextlib import AbstractContextManager
from pathlib import Path

import PIL.Image
import pytest
import torch

from limbeck.data import annotated
from limbeck.data.annotated import AnnotatedImages
from limbeck.data.base import BadSampleError, open_image
from limbeck.data.table import AnnotatedImage, Objects
from limbeck.training.data import DataModule

BOXES = [[2.0, 3.0, 8.0, 9.0], [-4.0, 5.0, 6.0, 30.0], [1.0, 1.0, 1.5, 9.0], [0.0, 0.0, 9.0, 9.0]]


def objects(crowds: tuple[int, ...] = (3,)) -> Objects:
    """Inside, beyond the border, half a pixel wide, and a crowd."""
    boxes = torch.tensor(BOXES)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    crowd = torch.tensor([int(i in crowds) for i in range(4)])
    return Objects(boxes, torch.arange(1, 5), area, crowd, {"row": torch.arange(4)})


def test_boxes_are_clipped_to_height_and_width() -> None:
    assert objects().within((20, 7)).tolist() == [
        [2, 3, 7, 9],
        [0, 5, 6, 20],
        [1, 1, 1.5, 9],
        [0, 0, 7, 9],
    ]


def test_what_cannot_be_learnt_from_is_left_out_with_its_attributes() -> None:
    kept = objects().learnable((20, 7))
    assert kept.boxes.tolist() == [[2, 3, 7, 9], [0, 5, 6, 20]]
    assert kept.labels.tolist() == [1, 2]
    assert kept.area.tolist() == [30, 90]
    assert kept.attributes["row"].tolist() == [0, 1]
    assert len(objects(crowds=()).learnable((20, 7))) == 3


def test_without_a_size_nothing_is_clipped() -> None:
    assert objects().learnable(None).boxes.tolist() == BOXES[:2]


def test_a_target_shares_no_memory_with_the_dataset() -> None:
    held = objects()
    target = held.target(7, (20, 7))
    assert target["image_id"].item() == 7
    for name in ("boxes", "labels", "area", "iscrowd", "row"):
        target[name].zero_()
    assert held.boxes.tolist() == BOXES
    assert held.attributes["row"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("keep", "count"), [(False, 1), (True, 2)])
def test_training_keeps_images_without_boxes_where_asked(
    keep: bool, count: int, tmp_path: Path
) -> None:
    path = tmp_path / "image.png"
    PIL.Image.new("RGB", (7, 20)).save(path)
    none = objects().rows(slice(0))
    images = [AnnotatedImage(path, i, (20, 7), o) for i, o in enumerate([objects(), none])]
    data = AnnotatedImages(
        tuple("abcd"), images, source=tmp_path, training=True, keep_images_without_boxes=keep
    )
    assert len(data) == count
    image, target = data[0]
    assert image.shape == (3, 20, 7)
    assert target["labels"].tolist() == [1, 2]


@pytest.mark.parametrize("stated", [False, True])
def test_files_are_looked_into_once_a_run(
    stated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.jpg"
    PIL.Image.new("RGB", (7, 20)).save(path)
    looks: list[Path] = []
    monkeypatch.setattr(annotated, "open_image", lambda file: opened(looks, file))
    images = [AnnotatedImage(path, i, (20, 7) if stated else None, objects()) for i in range(3)]
    data = DataModule(
        AnnotatedImages(tuple("abcd"), images, source=tmp_path),
        AnnotatedImages(tuple("abcd"), images, source=tmp_path, training=True),
        batch_size=1,
        group_by_aspect_ratio=True,
    )
    assert not looks
    for _ in range(3):  # loaders
        data.train_dataloader()
    assert looks == ([] if stated else [path] * 3)
    assert data.train is not None
    assert [data.train.image_size(i) for i in (0, 2, -1)] == [(20, 7)] * 3
    assert len(looks) == (0 if stated else 3)


def opened(looks: list[Path], path: Path) -> AbstractContextManager[PIL.Image.Image]:
    """An open image, of which it is noted that it was opened."""
    looks.append(path)
    return open_image(path)


def test_an_image_that_cannot_be_read_has_no_size(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(b"\xff\xd8\xff")
    data = AnnotatedImages(
        tuple("abcd"), [AnnotatedImage(path, 0, None, objects())], source=tmp_path
    )
    for _ in range(2):
        with pytest.raises(BadSampleError, match="not a readable image"):
            data.image_size(0)
    PIL.Image.new("RGB", (7, 20)).save(path)
    assert data.image_size(0) == (20, 7)
