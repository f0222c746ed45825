"""What recipes are chosen by: the splits of a folder of data, its classes, images and objects."""

import inspect
import logging
import pkgutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.commands.building import said_of_building
from limbeck.commands.datasets import tell_passed_over
from limbeck.commands.parsing import VerbParser
from limbeck.data import VisionDataset
from limbeck.data.base import Task
from limbeck.data.cluster import object_boxes
from limbeck.data.contents import contents_of
from limbeck.data.layouts import HELD_OUT, WHOLE, Layout, recognised
from limbeck.data.sizes import image_sizes
from limbeck.training.data import refuse_unlike

log = logging.getLogger(__name__)

_LOOKED_AT = 400  # images whose sizes are looked at
_SEED = 0

Stated = dict[str, Any]


@dataclass(frozen=True)
class Splits:
    """What recipes state of a folder of data.

    Attributes:
        train: The training set.
        val: The validation set.
        test: The set that a comparison is scored on. None: there is none.
        why: How they were divided, as sentences.
    """

    train: Stated
    val: Stated
    test: Stated | None
    why: str


@dataclass(frozen=True)
class Measured:
    """What a dataset is like.

    Attributes:
        layout: The layout of its folder.
        splits: What recipes state of it.
        classes: The names of its classes.
        images: The number of its training images.
        extents: The (height, width) of some of these, in pixels, (M, 2).
        objects: The (width, height) of the objects to learn from, as shares of the shorter sides
            of their images, (N, 2). Empty in a dataset for classification.
        data: The training set itself.
        unreadable: Whether some of the images that were looked at cannot be read.
    """

    layout: Layout
    splits: Splits
    classes: tuple[str, ...]
    images: int
    extents: Tensor
    objects: Tensor
    data: VisionDataset
    unreadable: bool

    @property
    def task(self) -> Task:
        """The task of the data."""
        return self.layout.task

    @property
    def untaught(self) -> list[str]:
        """The classes that no training image shows."""
        shown = set(contents_of(self.data).images.objects.labels.tolist())
        return [name for label, name in enumerate(self.classes, 1) if label not in shown]

    @property
    def short_side(self) -> int:
        """The shorter side of a typical image, in pixels."""
        return int(self.extents.amin(dim=1).median())

    @property
    def aspect(self) -> float:
        """How many times as long as the shorter one the longer side is, in all but a few images."""
        ratios = self.extents.amax(dim=1) / self.extents.amin(dim=1)
        return ratios.quantile(0.95).item()


def measured(folder: Path) -> Measured:
    """Look at a folder of data; of its images only the sizes are read.

    Args:
        folder: The folder, or the YAML file in one that describes a dataset in YOLO's layout.

    Returns:
        What it is like.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It is in no known layout, has nothing to learn from, no image that can be read,
            or a validation set of other classes.
    """
    layout = recognised(folder.resolve())
    tell_passed_over(layout)
    splits = divided(layout)
    train = _built(splits.train)
    splits = _fitting(splits, train)
    count = len(train)
    step = max(1, count // _LOOKED_AT)
    extents, unreadable = image_sizes(train, range(0, count, step))
    if unreadable:
        log.warning(
            "%d of %d training images that were looked at cannot be read; the recipes skip such "
            "images. The first: %s",
            len(unreadable),
            len(extents),
            unreadable[0],
        )
    extents = extents[extents[:, 0] > 0].float()
    if not len(extents):
        raise ValueError(
            f"{folder}: none of the training images that were looked at can be read. Give "
            "readable ones."
        )
    objects = torch.zeros(0, 2)
    if layout.task == "detection":
        boxes, of_images = object_boxes(train)
        objects = (boxes[:, 2:] - boxes[:, :2]) / of_images.amin(dim=1, keepdim=True)
    return Measured(
        layout, splits, tuple(train.classes), count, extents, objects, train, bool(unreadable)
    )


def _fitting(splits: Splits, train: VisionDataset) -> Splits:
    """The splits, without a test set of other classes; a validation set of others is refused."""
    refuse_unlike(train, _built(splits.val))
    if splits.test is None:
        return splits
    try:
        refuse_unlike(train, _built(splits.test), ("the training set", "the test set"))
    except (ValueError, FileNotFoundError) as error:
        log.warning("The test set is left out, and a comparison scores on data.val: %s", error)
        return replace(splits, test=None)
    return splits


def divided(layout: Layout) -> Splits:
    """Choose among the splits of a folder, and hold out images where there is no validation set.

    Args:
        layout: The layout of the folder.

    Returns:
        The splits.

    Raises:
        ValueError: It has several splits, of which none is called train.
    """
    there = layout.splits
    name = next((each for each in ("train", "trainval", WHOLE) if each in there), None)
    if name is None and len(there) == 1:
        name = next(iter(there))
    if name is None:
        raise ValueError(
            f"{layout.root} has the splits {', '.join(there)}; expected one called train. Name "
            "them so, or write recipes by hand: https://limbeck.readthedocs.io/en/latest/data/index.html"
        )
    whole = there[name]
    test = there.get("test") if name != "test" else None
    if name == "train" and "val" in there:
        return Splits(_for_training(whole, {"training": True}), there["val"], test, layout.why)
    # Both sides are divided by the positions of the images, so training leaves none of them out.
    alike = _for_training(whole, {"training": True, "keep_images_without_boxes": True})
    train, val = (
        {
            "class_path": "limbeck.data.Split",
            "init_args": {"dataset": dataset, "side": side, "share": HELD_OUT, "seed": _SEED},
        }
        for side, dataset in (("training", alike), ("held_out", whole))
    )
    why = (
        f"{layout.why} There is no validation set beside {name!r}, so a share of {HELD_OUT} of its "
        "images is held out, the same ones in all four files."
    )
    if alike != whole:
        why += " Images without objects are kept as examples of background."
    return Splits(train, val, test, why)


def _for_training(stated: Stated, arguments: Stated) -> Stated:
    """A split as it is stated for training, where its reader makes a difference."""
    reader = pkgutil.resolve_name(stated["class_path"])
    if not arguments.keys() <= inspect.signature(reader).parameters.keys():
        return stated
    return {**stated, "init_args": {**stated["init_args"], **arguments}}


def _built(stated: Stated) -> VisionDataset:
    parser = VerbParser(prog="limbeck new", exit_on_error=False)
    parser.add_argument("--data.train", type=VisionDataset)
    parsed = parser.parse_object({"data": {"train": stated}})
    with said_of_building(parsed):
        built: VisionDataset = parser.instantiate(parsed).data.train
    return built
