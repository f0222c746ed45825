"""What the splits of a dataset are called: train, val and test, in the usual spellings."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_NAMES = {  # what splits are called, beside their own names
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_YEAR = re.compile(r"[_-]?(19|20)\d\d$")


def known_splits(names: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
    """What splits of these names are called, each beside its own name.

    Args:
        names: The names of lists, files or folders, such as "train2017" or "valid". Those that
            are no split, such as "cat_train", are left out.

    Returns:
        The own names of the splits by "train", "val" and "test", in this order. Where two would be
        called alike, such as train2014 and train2017, all keep their own names. Without a train,
        "trainval" comes first, where there is one.
    """
    roles = {name: role for name in names if (role := role_of(name)) is not None}
    clear = len(set(roles.values())) == len(roles)
    found = {
        (role if clear else name): name
        for role in _NAMES
        for name in names
        if roles.get(name) == role
    }
    if "train" not in roles.values() and "trainval" in names:
        return {"trainval": "trainval", **found}
    return found


def role_of(name: str) -> str | None:
    """Which of "train", "val" and "test" a name stands for; None: it stands for no split."""
    plain = _YEAR.sub("", name.lower())
    return next((role for role, all_ in _NAMES.items() if plain in all_), None)


def spellings(split: str) -> Iterator[str]:
    """What the folder of a split may be called."""
    if split:
        yield split
    yield from _NAMES.get(role_of(split) or "", ())


def split_of(stem: str) -> str:
    """The split that is left of the name of a JSON file without its suffix: instances_val2017."""
    return re.sub(
        r"^instances_?|^_?annotations|\.coco$|_?annotations$|^person_keypoints_", "", stem
    ).strip("._-")
