"""``limbeck data convert``: a dataset in another layout, and what of it could not be kept."""

from pathlib import Path

from limbeck.commands.datasets import given_datasets
from limbeck.commands.layouts import To, tell_written, written_with_bar
from limbeck.commands.outputs import refuse_used_folder
from limbeck.data.contents import contents_of
from limbeck.data.layouts import WHOLE
from limbeck.data.written import Source
from limbeck.terminal import say


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
