"""Datasets of detection as the verbs write them: with a bar, and told when they are there."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from limbeck.data.written import Source, Written, write_dataset
from limbeck.terminal import progress_bar, say

log = logging.getLogger(__name__)

To = Literal["coco", "voc", "yolo"]


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
