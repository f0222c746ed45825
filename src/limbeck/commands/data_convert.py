"""``limbeck data convert``: a dataset in another layout, and what of it could not be kept."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from limbeck.commands.datasets import given_datasets
from limbeck.commands.outputs import refuse_used_folder
from limbeck.data.contents import contents_of
from limbeck.data.layouts import WHOLE
from limbeck.data.written import Source, Written, write_dataset
from limbeck.terminal import progress_bar, say

log = logging.getLogger(__name__)

To = Literal["coco", "voc", "yolo"]


def convert(data: list[str], to: To, output: Path) -> None:
    """Write a dataset of detection in another layout.

    Everything is written as it is annotated, with crowds, difficult objects and images without
    objects; what the new layout has no place for is told. Boxes are those of the pictures as they
    are seen, turned upright. The new dataset is read back before it is there, and is there whole or
    not at all. Its images are second names (hard links) of the files that there are, which take no
    space; where the disk has no such links, they are copied.

    Args:
        data: A folder of data, or recipes (.yaml), each laid over the ones before.
        to: The layout.
        output: The folder of the new dataset, which is not there yet, or is empty.

    Raises:
        FileExistsError: Something is in the folder.
        ValueError: The data are for classification, cannot be read, or their splits differ in their
            classes.
    """
    refuse_used_folder(output, "--output")
    given = given_datasets(data)
    splits = given.splits
    if to == "yolo" and list(splits) == [WHOLE]:
        splits = {"train": splits[WHOLE]}  # YOLO's layout has three names, and no other
    sources = {}
    for name, dataset in splits.items():
        contents = contents_of(dataset)
        sources[name] = Source(contents, None if contents.has_files else dataset)
    say(given.why)
    tell_written(written_with_bar(sources, to, output), output, to)


def written_with_bar(
    sources: Mapping[str, Source], to: To, output: Path, info: Mapping[str, Any] | None = None
) -> Written:
    """Write a dataset, with a bar that counts its images.

    Args:
        sources: The splits by their names.
        to: The layout.
        output: The folder of the new dataset.
        info: What else is written with the annotations. Default (None): nothing.

    Returns:
        What was written.
    """
    total = sum(len(source.contents.images) for source in sources.values())
    with progress_bar("images", "{task.completed:.0f} of {task.total:.0f}") as bar:
        task = bar.add_task("", total=total)
        return write_dataset(sources, to, output, info, lambda: bar.advance(task))


def tell_written(written: Written, output: Path, to: To) -> None:
    """Say what was written, what was not, and what a recipe states of it.

    Args:
        written: What was written.
        output: The folder.
        to: The layout.
    """
    say(
        f"{output}: {written.images} images with {written.objects} objects in {to}'s layout, read "
        "back and equal."
    )
    for loss in written.losses:
        log.warning("%s", loss)
    if written.copied:
        log.info("%d images were copied, as the disk takes no links.", written.copied)
    stated = yaml.safe_dump(
        {"data": written.splits}, sort_keys=False, allow_unicode=True, width=1e9
    )
    say(stated, soft_wrap=True, end="")
