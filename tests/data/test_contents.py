"""What datasets hold, whatever their class, and those of several put together."""

import weakref
from pathlib import Path
from typing import Any

import PIL.Image
import torch

from limbeck.data import Concatenated, ImageFolder, Shapes, Split
from limbeck.data.annotated import AnnotatedImages
from limbeck.data.contents import contents_of
from limbeck.data.table import AnnotatedImage, Objects


def annotated(folder: Path, count: int, **attributes: torch.Tensor) -> AnnotatedImages:
    """Images of 20 x 10 pixels, of which number n has n boxes."""
    images = []
    for number in range(count):
        path = folder / f"{number}.png"
        PIL.Image.new("RGB", (20, 10)).save(path)
        boxes = torch.tensor([[1.0, 2.0, 5.0 + number, 6.0]]).repeat(number, 1)
        ones = torch.ones(number, dtype=torch.int64)
        rows = {name: value.repeat(number) for name, value in attributes.items()}
        objects = Objects(boxes, ones, boxes[:, 2], 0 * ones, rows)
        images.append(AnnotatedImage(path, number, (10, 20), objects))
    return AnnotatedImages(["cat"], images, source=folder)


def test_the_contents_of_parts_are_those_of_the_dataset(tmp_path: Path) -> None:
    whole = annotated(tmp_path, 5)
    part = Split(whole, "held_out", share=0.6)
    contents = contents_of(part)
    assert [path.name for path in contents.images.paths()] == [f"{n}.png" for n in part.indices]
    assert contents.images.counts().tolist() == part.indices
    for number, (_, target) in enumerate(part[at] for at in range(len(part))):
        assert torch.equal(contents.images[number].objects.boxes, target["boxes"].data)


def test_joined_datasets_have_what_any_of_them_says(tmp_path: Path) -> None:
    first = annotated(tmp_path, 3, difficult=torch.tensor([True]))
    both = contents_of(Concatenated([first, annotated(tmp_path, 2)]))
    assert both.images.objects.attributes["difficult"].tolist() == [True] * 3 + [False]
    assert both.images.image_ids.tolist() == [0, 1, 2, 3, 4]
    assert both.images.sizes.tolist() == [[10, 20]] * 5


def test_a_dataset_without_files_is_gone_through() -> None:
    shapes = Shapes(count=3, size=32)
    contents = contents_of(shapes)
    assert not contents.has_files
    assert contents.images.sizes.tolist() == [[32, 32]] * 3
    assert torch.equal(contents.images[1].objects.labels, shapes[1][1]["labels"])


def test_one_image_at_a_time_is_in_memory() -> None:
    images: list[weakref.ref[torch.Tensor]] = []
    most = 0

    class Watched(Shapes):
        def __getitem__(self, index: int) -> Any:
            nonlocal most
            image, target = super().__getitem__(index)
            images.append(weakref.ref(image))
            most = max(most, sum(each() is not None for each in images))
            return image, target

    contents_of(Watched(count=20, size=32))
    assert most <= 2


def test_an_image_of_a_class_is_one_object(tmp_path: Path) -> None:
    for name in ("cat/a.png", "dog/a.png", "dog/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        PIL.Image.new("RGB", (4, 4)).save(tmp_path / name)
    contents = contents_of(ImageFolder(tmp_path))
    assert contents.images.objects.labels.tolist() == [1, 2, 2]
