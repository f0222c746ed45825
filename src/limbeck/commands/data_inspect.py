"""``limbeck data inspect``: what is in a dataset, and what is wrong with it."""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import Any

from limbeck.commands.data_picture import draw_examples, refuse_replacing_picture
from limbeck.commands.datasets import Given, given_datasets
from limbeck.commands.outputs import refuse_no_picture, refuse_unwritable_target
from limbeck.data import VisionDataset
from limbeck.data.contents import Contents, contents_of
from limbeck.data.examined import Copies, Examined, copies_of, examine
from limbeck.data.facts import SplitFacts, facts_of
from limbeck.names import escaped
from limbeck.ranges import COUNT, refuse_outside
from limbeck.terminal import Table, progress_bar, say

log = logging.getLogger(__name__)

_MOST_CLASSES = 100  # lines of the table of classes; a file has them all
_MOST_LISTED = 3


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        why: What the data were recognised as.
        boxes_are: The pixels that boxes are measured in.
        decoded: Whether pixels were decoded.
        splits: The facts of each split.
        classes: The classes of each split, in their order.
        copies: The images that are there several times.
    """

    why: str
    boxes_are: str
    decoded: bool
    splits: dict[str, SplitFacts]
    classes: dict[str, tuple[str, ...]]
    copies: list[Copies]


def inspect(
    data: list[str],
    decode: bool = False,
    picture: Path | None = None,
    images: int = 16,
    json: bool = False,
) -> None:
    """Show what is in a dataset, and what is wrong with it.

    Faults are told and change nothing. The exit code is 1 where an image cannot be read, and 0
    otherwise.

    Args:
        data: A folder of data, or recipes (.yaml), each laid over the ones before. Boxes are then
            measured after the resizing of the recipe's detector.
        decode: Whether to decode every image, which finds files that are cut off, and images of the
            same pixels in files of other names and bytes. Otherwise headers alone are read.
        picture: The picture to write, a grid of images with their boxes and names. Default (None):
            none is drawn.
        images: The most images that the picture shows.
        json: Whether to print everything as JSON, for programs.

    Raises:
        FileExistsError: The picture is there, and is none that this verb has drawn.
        ValueError: An image cannot be read, or the data are in no known layout.
    """
    refuse_outside({"images": COUNT}, {"images": images}, "--")
    if picture is not None:
        refuse_unwritable_target(picture, "--picture")
        refuse_no_picture(picture, "--picture")
        refuse_replacing_picture(picture)
    given = given_datasets(data)
    contents = {name: contents_of(dataset) for name, dataset in given.splits.items()}
    files = {name: list(_examined(name, each, decode)) for name, each in contents.items()}
    found = _inspection(given, contents, files, decode)
    if json:
        sys.stdout.write(dumps(asdict(found), indent=2) + "\n")
    else:
        _tell(found)
    if picture is not None:
        readable = _readable(given.splits, files)
        draw_examples(given.splits, contents, readable, picture, images)
        log.info("%s: boxes as they are annotated", picture)
    unreadable = sum(len(facts.unreadable) for facts in found.splits.values())
    if unreadable:
        total = sum(facts.images for facts in found.splits.values())
        raise ValueError(f"{unreadable} of {total} images cannot be read. Replace or remove them.")


def _examined(name: str, contents: Contents, decode: bool) -> Iterator[Examined]:
    """What the files of a split are like; a dataset that makes its images has none."""
    if not contents.has_files:
        return
    with progress_bar(escaped(name), "{task.completed:.0f} of {task.total:.0f}") as bar:
        task = bar.add_task("", total=len(contents.images))
        for file in examine(contents, decode=decode):
            bar.advance(task)
            yield file


def _inspection(
    given: Given,
    contents: Mapping[str, Contents],
    files: Mapping[str, Sequence[Examined]],
    decode: bool,
) -> Inspection:
    return Inspection(
        given.why,
        str(given.resize) if given.resize else "as they are in the files",
        decode,
        {name: facts_of(each, files[name], given.resize) for name, each in contents.items()},
        {name: each.classes for name, each in contents.items()},
        copies_of(files),
    )


def _readable(
    splits: Mapping[str, VisionDataset], files: Mapping[str, Sequence[Examined]]
) -> dict[str, list[int]]:
    """The positions of the images of each split that can be read."""
    return {
        name: [at for at in range(len(dataset)) if not (files[name] and files[name][at].problem)]
        for name, dataset in splits.items()
    }


def _tell(found: Inspection) -> None:
    say(found.why)
    table = Table("", *found.splits)
    for head, cells in _rows(list(found.splits.values())):
        table.add_row(head, *cells)
    say(table)
    if any(facts.boxes for facts in found.splits.values()):
        say(
            "Sizes are medians with the range of nine in ten, in pixels. Boxes are measured in "
            f"images {found.boxes_are}."
        )
    say(_class_table(found))
    for fault in _faults(found):
        log.warning("%s", fault)


def _rows(splits: Sequence[SplitFacts]) -> Iterator[tuple[str, list[str]]]:
    """The lines of the table of splits: a head, and a cell for each split."""
    boxes = [s.boxes for s in splits if s.boxes is not None]
    yield "images", [f"{s.images:,}" for s in splits]
    if boxes:
        yield "  without objects", [f"{s.without_objects:,}" for s in splits]
        yield "  kept in training", [f"{s.learnable_images:,}" for s in splits]
    yield "  different sizes", [f"{s.sizes:,}" for s in splits]
    yield "  width", [_or_none(s.widths) for s in splits]
    yield "  height", [_or_none(s.heights) for s in splits]
    if not boxes:
        return
    yield "objects", [f"{s.objects:,}" for s in splits]
    yield "  kept in training", [f"{s.learnable_objects:,}" for s in splits]
    for mark in dict.fromkeys(m for s in splits for m, count in s.marked.items() if count):
        yield f"  {mark}", [f"{s.marked.get(mark, 0):,}" for s in splits]
    yield "  in an image", [_or_none(box.per_image) for box in boxes]
    yield "  width of boxes", [_or_none(box.widths) for box in boxes]
    yield "  height of boxes", [_or_none(box.heights) for box in boxes]
    yield "  under 32 x 32", [f"{box.small:.0%}" for box in boxes]
    yield "  from 96 x 96", [f"{box.large:.0%}" for box in boxes]


def _or_none(spread: Any) -> str:
    return "none" if spread is None else str(spread)


def _class_table(found: Inspection) -> Table:
    """The objects of each class, and in how many images they are."""
    names = list(dict.fromkeys(name for facts in found.splits.values() for name in facts.classes))
    detects = any(facts.boxes for facts in found.splits.values())
    title = "Objects of each class (images that have it)" if detects else "Images of each class"
    table = Table("class", *found.splits, title=title)
    for name in names[:_MOST_CLASSES]:
        counts = [
            (facts.classes.get(name, 0), facts.images_with.get(name, 0))
            for facts in found.splits.values()
        ]
        table.add_row(
            name, *(f"{n:,} ({of_images:,})" if detects else f"{n:,}" for n, of_images in counts)
        )
    if len(names) > _MOST_CLASSES:
        table.add_row(f"{len(names) - _MOST_CLASSES} more: see --json")
    return table


def _faults(found: Inspection) -> Iterator[str]:
    """What is wrong, or may be: a sentence each."""
    yield from _about_classes(found.classes)
    for name, facts in found.splits.items():
        absent = [each for each, count in facts.classes.items() if not count]
        if absent:
            yield f"{name}: {len(absent)} classes have no object: {_few(absent)}."
        if facts.unreadable:
            yield f"{name}: {len(facts.unreadable)} images cannot be read: {_few(facts.unreadable)}"
        if facts.unsettled:
            yield (
                f"{name}: {facts.unsettled} images have an EXIF orientation, and nothing says "
                "which way up their boxes are: state boxes_of: upright or stored."
            )
        elif facts.orientations:
            yield f"{name}: {facts.orientations} images are turned by their EXIF orientation."
        if facts.boxes and facts.boxes.outside:
            yield (
                f"{name}: {facts.boxes.outside} boxes reach more than a pixel beyond their images, "
                f"{facts.boxes.wholly_outside} of them lie outside altogether: training clips them."
            )
        if facts.boxes and facts.boxes.empty:
            yield f"{name}: {facts.boxes.empty} boxes have a side of less than a pixel."
    yield from _about_copies(found.copies)


def _about_classes(classes: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Where splits differ in their classes, or in the order, which decides the labels."""
    (first, expected), *others = classes.items()
    for name, own in others:
        if own == expected:
            continue
        if sorted(own) == sorted(expected):
            yield (
                f"{first} and {name} have the same classes in another order, so that their labels "
                f"differ: {', '.join(map(escaped, expected))}; {', '.join(map(escaped, own))}."
            )
        else:
            more = _few([each for each in own if each not in expected]) or "none"
            missing = _few([each for each in expected if each not in own]) or "none"
            yield (
                f"{first} and {name} differ in their classes: {name} lacks {missing}, and has "
                f"{more} that {first} lacks."
            )


def _about_copies(copies: Sequence[Copies]) -> Iterator[str]:
    """How many images are there several times, within a split or in two of them."""
    groups: dict[tuple[str, tuple[str, ...]], list[list[str]]] = {}
    for each in copies:
        named = [f for files in each.files.values() for f in files]
        groups.setdefault((each.of, tuple(each.files)), []).append(named)
    for (of, splits), files in groups.items():
        where = f"{' and '.join(splits)} share" if len(splits) > 1 else f"{splits[0]} repeats"
        what = "of the same bytes" if of == "bytes" else "of the same pixels in other files"
        yield f"{where} {len(files)} images {what}, such as {' and '.join(files[0][:2])}."


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(map(escaped, names[:_MOST_LISTED]))
    return f"{shown} and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else shown
