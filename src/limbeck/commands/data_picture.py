"""The picture of ``limbeck data inspect``: some images of a dataset with their boxes and names."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from limbeck.data import VisionDataset
from limbeck.data.base import BadSampleError
from limbeck.data.contents import Contents
from limbeck.data.loading import scaled
from limbeck.report import Example, image_grid
from limbeck.report.style import is_replaceable

log = logging.getLogger(__name__)

SOFTWARE = "limbeck data inspect"
_LONGEST = 640  # pixels of the longer side of an image in the grid


def refuse_replacing_picture(out: Path) -> None:
    """Refuse to draw in the place of a file that is no such picture.

    Args:
        out: The picture.

    Raises:
        FileExistsError: It is there, and is none that this verb has drawn.
    """
    if not is_replaceable(out, SOFTWARE):
        raise FileExistsError(
            f"{out} is there, and is no PNG that `limbeck data inspect` has drawn. Nothing was "
            "written: choose another name with --picture, or move that file away."
        )


def draw_examples(
    splits: Mapping[str, VisionDataset],
    contents: Mapping[str, Contents],
    readable: Mapping[str, Sequence[int]],
    out: Path,
    count: int,
) -> None:
    """Draw a grid of images, in which every class is shown that there is room for.

    Args:
        splits: The dataset of each split.
        contents: What each of them holds.
        readable: The positions of its images that can be read.
        out: The picture to write.
        count: The most images that are drawn.
    """
    examples: list[Example] = []
    for (name, dataset), most in zip(splits.items(), _shares(count, len(splits)), strict=True):
        for place in _chosen(contents[name], readable[name], most):
            try:
                examples.append(_example(dataset, place, name))
            except BadSampleError as error:  # it is cut off, which its header does not show
                log.warning("%s", error)
    image_grid(examples, out, SOFTWARE)


def _shares(count: int, splits: int) -> list[int]:
    """How many of the images are of each split."""
    return [(count + at) // splits for at in reversed(range(splits))]


def _chosen(contents: Contents, readable: Sequence[int], most: int) -> list[int]:
    """The positions of some images: of the rarest classes first, and then evenly spread ones."""
    table, allowed = contents.images, set(readable)
    owners = torch.arange(len(table)).repeat_interleave(table.counts())
    labels = table.objects.labels
    counts = labels.bincount(minlength=1)
    shown: set[int] = set()
    chosen: dict[int, None] = {}
    for label in counts.argsort(stable=True).tolist():
        having = (at for at in owners[labels == label].tolist() if at in allowed)
        first = None if label in shown else next(having, None)
        if first is not None and len(chosen) < most:
            chosen[first] = None
            shown |= set(labels[owners == first].tolist())
    step = max(1, len(readable) // max(1, most))
    for at in [*readable[::step], *readable]:
        if len(chosen) < most:
            chosen[at] = None
    return sorted(chosen)


def _example(dataset: VisionDataset, place: int, split: str) -> Example:
    """An image with its boxes; those that an evaluator ignores say so."""
    read, target = dataset[place]
    image = scaled(read.as_subclass(Tensor))
    if isinstance(target, Tensor):
        return Example(image, f"{split}: {dataset.classes[int(target)]}")
    names = [*dataset.classes, "ignored"]
    labels = target["labels"].where(target["iscrowd"] == 0, torch.tensor(len(names)))
    boxes = target["boxes"].as_subclass(Tensor)
    longest = max(image.shape[1:])
    if longest > _LONGEST:
        size = [max(1, side * _LONGEST // longest) for side in image.shape[1:]]
        factors = torch.tensor([size[1] / image.shape[2], size[0] / image.shape[1]] * 2)
        image, boxes = interpolate(image[None], size, mode="area")[0], boxes * factors
    return Example(image, split, {"boxes": boxes, "labels": labels}, names)
