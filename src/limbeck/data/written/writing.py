"""Datasets written in another layout: whole or not at all, and read back before they are there."""

import logging
import os
import pkgutil
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from limbeck.data.annotated import refuse_bad_classes
from limbeck.data.base import VisionDataset
from limbeck.data.contents import Contents, contents_of
from limbeck.data.examined import Examined, examine
from limbeck.data.orientation import UPRIGHT, upright_boxes
from limbeck.data.table import ImageTable, Texts
from limbeck.data.written.coco import COCOTarget
from limbeck.data.written.part import Part, Target
from limbeck.data.written.voc import VOCTarget
from limbeck.data.written.yolo import YOLOTarget, refuse_splits
from limbeck.machine import cores
from limbeck.names import file_names, folded
from limbeck.whole import folder_written_whole

LAYOUTS: Mapping[str, Target] = {
    each.name: each for each in (COCOTarget(), VOCTarget(), YOLOTarget())
}

Progress = Callable[[], None]


@dataclass(frozen=True)
class Source:
    """A split that is to be written.

    Attributes:
        contents: What it holds.
        dataset: The dataset, which gives the images where they are no files. None: they are.
    """

    contents: Contents
    dataset: VisionDataset | None = None


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        splits: What a recipe states of each split.
        images: The number of images.
        objects: The number of objects.
        losses: What could not be kept, a sentence each; empty where everything was.
        copied: How many images were copied, as the disk takes no second name for them.
    """

    splits: dict[str, dict[str, Any]]
    images: int
    objects: int
    losses: list[str]
    copied: int


def write_dataset(
    sources: Mapping[str, Source],
    layout: str,
    folder: Path,
    info: Mapping[str, Any] | None = None,
    step: Progress = lambda: None,
) -> Written:
    """Write a dataset of detection, and read it back with limbeck's own class.

    The image files are linked: the new files are second names of the same bytes, which take no
    space and no time. Where the disk has no such links they are copied.

    Args:
        sources: The splits by their names.
        layout: The layout: "coco", "voc" or "yolo".
        folder: The folder of the new dataset, which is not there, or is empty.
        info: What else is written with the annotations: where they are from. Default (None):
            nothing.
        step: Called for each image that is in its place.

    Returns:
        What was written.

    Raises:
        OSError: It cannot be written. Nothing is left of it.
        ValueError: The task is another one, the splits differ in their classes or have names that
            the layout does not know, an image cannot be read, or something else comes back.
    """
    target = LAYOUTS[layout]
    _refuse(sources, target)
    taken: dict[Path, set[str]] = defaultdict(set)  # stems, by the folder that they are in
    prepared = {
        name: _prepared(name, source, taken[target.images(folder, name)])
        for name, source in sources.items()
    }
    kept = {name: target.kept(part) for name, (part, _) in prepared.items()}
    turned = any(file.orientation != UPRIGHT for _, files in prepared.values() for file in files)
    copied = 0
    with folder_written_whole(folder) as partial:
        for name, (part, files) in prepared.items():
            place = target.images(partial, name)
            place.mkdir(parents=True, exist_ok=True)
            copied += _put(part, files, sources[name].dataset, place, step)
        parts = {name: each.part for name, each in kept.items()}
        target.write(partial, parts, info or {})
        with _silent(logging.getLogger("limbeck.data")):  # all was said of the source
            for part in parts.values():
                _read_back(target, partial, part, upright=turned)
    return Written(
        {name: target.stated(folder, part, upright=turned) for name, part in parts.items()},
        sum(len(part.images) for part in parts.values()),
        sum(len(part.images.objects) for part in parts.values()),
        [
            *_losses([each.losses for each in kept.values()], sources, prepared),
            *target.unsaid(list(parts.values()), upright=turned),
        ],
        copied,
    )


def _refuse(sources: Mapping[str, Source], target: Target) -> None:
    """Refuse what this layout, or any, cannot hold."""
    contents = {name: source.contents for name, source in sources.items()}
    for name, each in contents.items():
        if each.task != "detection":
            raise ValueError(
                f"{name} is for {each.task}; expected a dataset of detection, as {target.name} is. "
                "A folder of images for each class is a layout of its own: use it as it is."
            )
        refuse_bad_classes(each.classes, name)
    (first, expected), *others = contents.items()
    for name, each in others:
        if each.classes != expected.classes:
            raise ValueError(
                f"{first} has the classes {', '.join(expected.classes)}, and {name} has "
                f"{', '.join(each.classes)}; expected the same ones in the same order. State them "
                "in a recipe, or correct the annotations."
            )
    if isinstance(target, YOLOTarget):
        refuse_splits(list(sources))


def _prepared(name: str, source: Source, taken: set[str]) -> tuple[Part, list[Examined]]:
    """A split with new names, and boxes of the upright pictures; and what its files are like."""
    contents = source.contents
    table = contents.images
    files = list(examine(contents)) if contents.has_files else []
    bad = [file.problem for file in files if file.problem]
    if bad:
        raise ValueError(
            f"{len(bad)} of the {len(table)} images of {name} cannot be read: {bad[0]}. `limbeck "
            "data inspect` lists them."
        )
    sizes = table.sizes.clone()
    boxes = table.objects.boxes.clone()
    starts = (table.ends - table.counts()).tolist()
    for at, file in enumerate(files):
        size = file.size or (0, 0)
        sizes[at] = torch.tensor(file.seen)
        if file.orientation != UPRIGHT and not file.turned:
            rows = slice(starts[at], int(table.ends[at]))
            boxes[rows] = upright_boxes(boxes[rows], size, file.orientation)
    names = list(_new_names(name, table, taken))
    ids = table.image_ids
    if len(ids.unique(sorted=False)) < len(ids):  # type: ignore[no-untyped-call]
        ids = torch.arange(len(ids))
    images = replace(
        table,
        folder=Path(),
        names=Texts.of(names),
        image_ids=ids,
        sizes=sizes,
        objects=replace(table.objects, boxes=boxes),
    )
    categories = contents.category_ids or tuple(range(1, len(contents.classes) + 1))
    return Part(name, contents.classes, images, categories), files


def _new_names(split: str, table: ImageTable, taken: set[str]) -> Iterator[str]:
    """A file name for each image: its own, unless another one in the folder has its stem."""
    for number, path in enumerate(map(PurePath, table.names)):
        stem = path.stem
        if folded(stem) in taken:
            key = f"{split}/{number}/{path}"
            stem = file_names({"": stem, key: stem})[key]
        taken.add(folded(stem))
        yield f"{stem}{path.suffix}"


def _put(
    part: Part,
    files: Sequence[Examined],
    dataset: VisionDataset | None,
    place: Path,
    step: Progress,
) -> int:
    """Put the images in their folder; how many were copied."""
    names = list(part.images.names)
    if dataset is not None:
        for number, name in enumerate(names):
            to_pil_image(dataset[number][0].as_subclass(Tensor)).save(place / name)
            step()
        return 0
    copied = 0
    sources = (file.path for file in files)
    with ThreadPoolExecutor(cores()) as threads:
        for linked in threads.map(_linked, sources, (place / name for name in names)):
            copied += not linked
            step()
    return copied


def _linked(source: Path, target: Path) -> bool:
    """Give a file a second name, or copy it; whether it is a second name."""
    with suppress(OSError):  # another disk, one without links, or a file of another user
        os.link(source.resolve(), target)
        return True
    shutil.copyfile(source, target)
    return False


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Within, a logger and those below it only tell errors."""
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _read_back(target: Target, folder: Path, part: Part, *, upright: bool) -> None:
    """Refuse a dataset that is not read as what was written."""
    stated = target.stated(folder, part, upright=upright)
    dataset = pkgutil.resolve_name(stated["class_path"])(**stated["init_args"])
    read = contents_of(dataset)
    places = {PurePath(name).name: at for at, name in enumerate(read.images.names)}
    order = torch.tensor([places.get(name, -1) for name in part.images.names])
    if read.classes != part.classes or len(places) != len(order) or (order < 0).any():
        raise ValueError(
            f"{part.name} comes back from {target.name} with other classes or images: "
            f"{len(places)} images of {', '.join(read.classes)}; expected {len(order)} of "
            f"{', '.join(part.classes)}. A name may hold what the layout does not take: change it."
        )
    found, expected = read.images.rows(order).objects, part.images.objects
    same = len(found) == len(expected) and (
        torch.equal(found.labels, expected.labels)
        and torch.equal(found.iscrowd, expected.iscrowd)
        and bool(((found.boxes - expected.boxes).abs() <= target.tolerance).all())
        and all(
            torch.equal(column, expected.attributes[name])
            for name, column in found.attributes.items()
        )
    )
    if not same:
        raise ValueError(
            f"{part.name} comes back from {target.name} with other objects than were written. "
            "Nothing was kept. This is a mistake of limbeck's: report it with the annotations."
        )


def _losses(
    counts: Sequence[Mapping[str, int]],
    sources: Mapping[str, Source],
    prepared: Mapping[str, tuple[Part, Sequence[Examined]]],
) -> list[str]:
    """What was not kept, a sentence each."""
    totals: dict[str, int] = {}
    for of_split in counts:
        for what, count in of_split.items():
            totals[what] = totals.get(what, 0) + count
    said = [f"{count} objects {what}." for what, count in totals.items() if count]
    unread = sorted({each for source in sources.values() for each in source.contents.unread})
    said += [
        f"limbeck does not read, and so has not written, what there may be of this: {each}."
        for each in unread
    ]
    renamed = inside = 0
    for name, (part, _) in prepared.items():
        table = sources[name].contents.images
        old = list(map(PurePath, table.names))
        renamed += sum(a.name != b for a, b in zip(old, part.images.names, strict=True))
        if table.folder != Path():  # the names are seen from that of the split
            inside += sum(len(each.parts) > 1 and not each.is_absolute() for each in old)
    if inside:
        said.append(f"{inside} images lay in folders of a split, and now lie in the split's own.")
    if renamed:
        said.append(f"{renamed} images have another name, as others would have had the same one.")
    return said
