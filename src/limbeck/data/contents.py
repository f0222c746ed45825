"""What a dataset holds, whatever its class: its images and its objects, without the pixels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from limbeck.data.annotated import AnnotatedImages
from limbeck.data.base import Task, VisionDataset
from limbeck.data.coco import COCO
from limbeck.data.concatenated import Concatenated
from limbeck.data.imagefolder import ImageFolder
from limbeck.data.split import Split
from limbeck.data.table import ImageTable, Objects

OWN_FIELDS = (
    "boxes",
    "labels",
    "image_id",
    "area",
    "iscrowd",
)  # of a target; others are attributes


@dataclass(frozen=True, slots=True)
class Contents:
    """The images of a dataset with their objects.

    Attributes:
        task: The task of the dataset.
        classes: The names of its classes.
        images: The images with their objects. Of classification, each image has one object, whose
            label is that of the image plus 1, and whose box is empty.
        upright: Whether the boxes of each image are of the picture as it is seen, where its size
            does not tell, as :func:`limbeck.data.orientation.turns` takes it; bool (N,).
        has_files: Whether each image is a file. Otherwise the dataset makes them, and they have no
            paths.
        unread: What the files may say of objects and images beside this, in words, one for each
            layout.
        category_ids: COCO's own id of each class. None: it is another layout, or several files
            differ.
    """

    task: Task
    classes: tuple[str, ...]
    images: ImageTable
    upright: Tensor
    has_files: bool = True
    unread: frozenset[str] = frozenset()
    category_ids: tuple[int, ...] | None = None

    def rows(self, which: Tensor) -> "Contents":
        """Those of some of the images, by their indices, int64 (K,)."""
        return replace(self, images=self.images.rows(which), upright=self.upright[which])


def contents_of(dataset: VisionDataset) -> Contents:
    """What a dataset holds.

    Args:
        dataset: The dataset. One that is no dataset of image files is gone through image by image.

    Returns:
        Its contents, in its order.
    """
    return _of_files(dataset) or _of_items(dataset)


def _of_files(dataset: VisionDataset) -> Contents | None:
    """The contents of a dataset of image files; None for another one."""
    if isinstance(dataset, AnnotatedImages):
        upright = torch.full((len(dataset),), dataset.boxes_of == "upright")
        unread = frozenset([dataset.unread] if dataset.unread else [])
        ids = dataset.category_ids if isinstance(dataset, COCO) else None
        images = dataset.images
        return Contents("detection", dataset.classes, images, upright, True, unread, ids)
    if isinstance(dataset, ImageFolder):
        return Contents(
            "classification",
            dataset.classes,
            _classified(dataset.paths, dataset.labels),
            torch.ones(len(dataset), dtype=torch.bool),
        )
    if isinstance(dataset, Split):
        whole = _of_files(dataset.dataset)
        return None if whole is None else whole.rows(torch.tensor(dataset.indices))
    if isinstance(dataset, Concatenated):
        parts = [_of_files(each) for each in dataset.datasets]
        known = [part for part in parts if part is not None]
        return joined(known) if len(known) == len(parts) else None
    return None


def joined(parts: Sequence[Contents]) -> Contents:
    """The images of several contents of one list of classes, one after the other.

    Args:
        parts: The contents, one at least.

    Returns:
        All of them, numbered from 0. An attribute that some of them lack is 0 there.
    """
    tables = [part.images for part in parts]
    names = {name: column for table in tables for name, column in table.objects.attributes.items()}
    objects = [table.objects for table in tables]
    everything = Objects(
        torch.cat([each.boxes for each in objects]),
        torch.cat([each.labels for each in objects]),
        torch.cat([each.area for each in objects]),
        torch.cat([each.iscrowd for each in objects]),
        {
            name: torch.cat(
                [each.attributes.get(name, column.new_zeros(len(each))) for each in objects]
            )
            for name, column in names.items()
        },
    )
    table = ImageTable.numbered(
        Path(),
        (str(path) for table in tables for path in table.paths()),
        torch.cat([table.counts() for table in tables]).tolist(),
        everything,
    )
    sizes = torch.cat([table.sizes for table in tables])
    upright = torch.cat([part.upright for part in parts])
    ids = {part.category_ids for part in parts}
    return replace(
        parts[0],
        images=replace(table, sizes=sizes),
        upright=upright,
        unread=frozenset().union(*(part.unread for part in parts)),
        category_ids=ids.pop() if len(ids) == 1 else None,
    )


def _classified(paths: Iterable[str], labels: Tensor) -> ImageTable:
    count = len(labels)
    objects = Objects(
        torch.zeros(count, 4), labels + 1, torch.zeros(count), torch.zeros_like(labels)
    )
    return ImageTable.numbered(Path(), paths, [1] * count, objects)


def _of_items(dataset: VisionDataset) -> Contents:
    """The contents of any dataset, each of whose images is made or read."""
    names = [f"{number:06d}.png" for number in range(len(dataset))]
    upright = torch.ones(len(dataset), dtype=torch.bool)
    sizes, targets = [], []
    for number in range(len(dataset)):  # one image at a time is in memory
        image, target = dataset[number]
        sizes.append(tuple(image.shape[-2:]))
        targets.append(target)
    if dataset.task == "classification":
        table = _classified(names, torch.stack([t for t in targets if isinstance(t, Tensor)]))
    else:
        table = _detected(names, [target for target in targets if isinstance(target, dict)])
    table = replace(table, sizes=torch.tensor(sizes))
    return Contents(dataset.task, dataset.classes, table, upright, has_files=False)


def _detected(names: Sequence[str], targets: Sequence[dict[str, Tensor]]) -> ImageTable:
    """The images with the objects of their targets, with what all of these say of each object."""
    columns: dict[str, Tensor] = {
        name: torch.cat([target[name] for target in targets])
        for name, first in targets[0].items()
        if name != "image_id" and first.ndim and all(name in target for target in targets)
    }
    boxes = columns["boxes"].as_subclass(Tensor)
    labels = columns["labels"]
    objects = Objects(
        boxes,
        labels,
        columns.get("area", (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)),
        columns.get("iscrowd", torch.zeros_like(labels)),
        {name: column for name, column in columns.items() if name not in OWN_FIELDS},
    )
    return ImageTable.numbered(Path(), names, [len(t["labels"]) for t in targets], objects)
