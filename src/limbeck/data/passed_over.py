"""What a folder of data holds that is called as a split is, and could not be read as one."""

from pathlib import Path

from limbeck.data.layouts import WHOLE, Layout
from limbeck.data.split_names import role_of, split_of

_PLACES = ("", "annotations", "images", "ImageSets", "ImageSets/Main")


def passed_over(layout: Layout) -> list[Path]:
    """Find what is called as a split that is missing, and could not be read as one.

    Such are a folder in which a class has no image, annotations whose images are elsewhere, and a
    list whose lines are no names of annotations.

    Args:
        layout: The layout of a folder.

    Returns:
        The files and folders that are called as a training or validation set is, where the layout
        has no such split.
    """
    if layout.name in ("KITTI", "WIDER FACE") or list(layout.splits) == [WHOLE]:
        return []  # whose folders have names of their own, or are those of classes
    there = {role_of(name) for name in layout.splits}
    stated = {str(each) for split in layout.splits.values() for each in split["init_args"].values()}
    places = (layout.root / inside for inside in _PLACES)
    entries = (entry for place in places if place.is_dir() for entry in sorted(place.iterdir()))
    return [
        entry
        for entry in entries
        if role_of(split_of(entry.stem)) in {"train", "val"} - there
        and (entry.is_dir() or entry.suffix in (".txt", ".json"))
        and str(entry) not in stated  # as all images may be in a folder called train
    ]
