"""Which files are images, and which ones other programs have left beside them.

All readers of folders, and ``limbeck predict``, ask here.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import TypeVar

from torchvision.datasets.folder import IMG_EXTENSIONS

log = logging.getLogger(__name__)

Item = TypeVar("Item")

SUFFIXES = (*IMG_EXTENSIONS, ".gif")  # in lower case, though files may have them in upper case
# What Windows, macOS and network storage leave in folders, in lower case.
_LEFT_BEHIND = {
    "__macosx",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
}


def is_image(path: PurePath) -> bool:
    """Whether the suffix of a file is that of an image."""
    return path.suffix.lower() in SUFFIXES


def is_companion(path: PurePath) -> bool:
    """Whether a file is hidden, is one that an operating system leaves, or lies in such a folder.

    Args:
        path: The part of its path that lies within a dataset, whose folder may itself be hidden.

    Returns:
        Whether it is no data.
    """
    return any(
        (part.startswith(".") and part != "..") or part.lower() in _LEFT_BEHIND
        for part in path.parts
    )


class LeftOut:
    """Counts what a reader leaves out of a folder, to say it once.

    Args:
        source: The folder or file that is read, for the message.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.companions: list[PurePath] = []
        self.others: list[PurePath] = []

    def keeps(self, path: PurePath) -> bool:
        """Whether a path is no companion file; otherwise it is counted."""
        companion = is_companion(path)
        if companion:
            self.companions.append(path)
        return not companion

    def keeps_image(self, path: PurePath) -> bool:
        """Whether a path is an image and no companion file; otherwise it is counted."""
        kept, image = self.keeps(path), is_image(path)
        if kept and not image:
            self.others.append(path)
        return kept and image

    def say(self) -> None:
        """Log how many were left out, if any."""
        for paths, what in (
            (self.companions, "hidden, or an operating system's own"),
            (self.others, f"no images ({', '.join(SUFFIXES)})"),
        ):
            if paths:
                log.warning(
                    "%s: left out %d files or folders that are %s, such as %s",
                    self.source,
                    len(paths),
                    what,
                    paths[0],
                )


def without_companions(
    items: Iterable[Item], source: Path, path: Callable[[Item], str] = str
) -> list[Item]:
    """Those of several items that are not of companion files; how many are not is logged.

    Args:
        items: The names or paths, or what has one.
        source: The folder or file that lists them, for the message.
        path: Gives the path of an item within the dataset.

    Returns:
        The items that remain, in their order.
    """
    left_out = LeftOut(source)
    kept = [item for item in items if left_out.keeps(PurePath(path(item)))]
    left_out.say()
    return kept


def images_by_stem(folder: Path, stems: Iterable[str]) -> dict[str, Path]:
    """Find the image files of a folder by their stems, whatever their formats.

    Args:
        folder: The folder.
        stems: The names of the files without their suffixes.

    Returns:
        The file of each stem that has one. Where there are several, which is logged, it is the last
        one in alphabetical order.
    """
    found: dict[str, list[Path]] = {stem: [] for stem in stems}
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        if name.rpartition(".")[0] not in found:  # most of a folder, for a small split
            continue
        path = folder / name
        if path.stem in found and is_image(path) and not is_companion(PurePath(name)):
            found[path.stem].append(path)
    twice = [paths for paths in found.values() if len(paths) > 1]
    if twice:
        log.warning(
            "%s: %d images have several files, such as %s; the last of them is read",
            folder,
            len(twice),
            ", ".join(path.name for path in twice[0]),
        )
    return {stem: paths[-1] for stem, paths in found.items() if paths}


def images_in(folder: Path) -> list[str]:
    """The image files of a folder and of all folders in it, folder by folder, sorted in each.

    Folders that are linked into it are gone through, unless a link leads back to where it lies.
    Hidden files and folders, those that operating systems leave behind, and files that are no
    images are left out; their numbers are logged.

    Args:
        folder: The folder.

    Returns:
        The paths, each with the folder before it.
    """
    left_out = LeftOut(folder)
    found = []
    for parent, inside, names in os.walk(folder, followlinks=True):
        within = Path(parent).relative_to(folder)
        kept = sorted(name for name in inside if left_out.keeps(PurePath(name)))
        inside[:] = [name for name in kept if not _leads_back(Path(parent, name))]
        found += [
            str(Path(parent, name)) for name in sorted(names) if left_out.keeps_image(within / name)
        ]
    left_out.say()
    return found


def within(name: str, folder: Path) -> str:
    """The part of a path that lies in the folder of images; an image may also be elsewhere."""
    path = PurePath(name)
    if not path.is_absolute():
        return name
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name


def files_below(folder: Path) -> Iterator[Path]:
    """All files of a folder and of the folders in it, linked ones too."""
    for parent, names in walked(folder):
        yield from (Path(parent, name) for name in names)


def walked(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A folder and all folders in it, linked ones too, each with the names of its files.

    Args:
        folder: The folder. A link in it that leads back to where it lies is not followed.

    Yields:
        The path of a folder, and the names of its files; folders and names are sorted.
    """
    for parent, inside, names in os.walk(folder, followlinks=True):
        inside[:] = sorted(name for name in inside if not _leads_back(Path(parent, name)))
        yield parent, sorted(names)


def _leads_back(folder: Path) -> bool:
    """Whether a folder is a link to one that it lies in."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())
