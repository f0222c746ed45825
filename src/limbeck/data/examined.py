"""What image files are like, looked at on all cores: sizes, orientations, damage, and copies."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Literal, TypeVar

from torch import Tensor

from limbeck.data.base import BadSampleError, open_image, to_rgb
from limbeck.data.contents import Contents
from limbeck.data.orientation import UPRIGHT, may_have_exif, orientation_of, settles, turns
from limbeck.machine import cores

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Examined:
    """What one image file is like.

    Attributes:
        path: The file.
        size: The (height, width) of the stored pixels. None: the file cannot be read.
        orientation: The EXIF orientation: 1 where the pixels lie as they are seen, up to 8.
        turned: Whether the boxes are of the picture turned upright.
        settled: Whether the annotation says so, by the size that it states.
        length: The bytes of the file.
        pixels: A hash of the pixels, the same in each file of these pixels. None: they were not
            decoded.
        problem: Why the file cannot be read, or is another image than was annotated; or empty.
    """

    path: Path
    size: tuple[int, int] | None = None
    orientation: int = UPRIGHT
    turned: bool = False
    settled: bool = True
    length: int = 0
    pixels: bytes | None = None
    problem: str = ""

    @property
    def annotated(self) -> tuple[int, int] | None:
        """The (height, width) of the picture that the boxes are of."""
        return self.seen if self.turned else self.size

    @property
    def seen(self) -> tuple[int, int] | None:
        """The (height, width) of the picture turned upright."""
        return self.size[::-1] if self.size and self.orientation >= 5 else self.size


def examine(contents: Contents, *, decode: bool = False) -> Iterator[Examined]:
    """Look at the image files of a dataset, on all cores.

    Args:
        contents: The contents of the dataset, which has files.
        decode: Whether to decode the pixels, which shows files that are cut off. Otherwise the
            headers are read alone.

    Yields:
        What each file is like, in the order of the dataset.
    """
    table = contents.images
    sizes = ((height, width) if height else None for height, width in table.sizes.tolist())
    with ThreadPoolExecutor(cores()) as threads:  # Pillow reads and decodes without Python's lock
        yield from threads.map(
            _examined, table.paths(), sizes, contents.upright.tolist(), repeat(decode)
        )


def _examined(path: Path, stated: tuple[int, int] | None, upright: bool, decode: bool) -> Examined:
    try:
        with open_image(path, stated) as image:
            has_orientation = may_have_exif(path)
            orientation = orientation_of(image) if has_orientation else UPRIGHT
            turned = has_orientation and turns(image, stated, "upright" if upright else "stored")
            size = image.height, image.width
            found = Examined(
                path,
                size,
                orientation,
                turned and orientation != UPRIGHT,
                orientation == UPRIGHT or settles(stated, orientation),
                path.stat().st_size,
                _hash(to_rgb(image)) if decode else None,
            )
    except BadSampleError as error:
        return Examined(path, problem=str(error))
    if stated not in (None, found.annotated):
        problem = (
            f"{path} has height and width {found.annotated}, its annotation says {stated}: its "
            "boxes do not fit; correct one of the two"
        )
        return Examined(path, problem=problem)
    return found


def _hash(pixels: Tensor) -> bytes:
    found = hashlib.sha256(repr(tuple(pixels.shape)).encode())
    found.update(pixels.as_subclass(Tensor).contiguous().numpy().data)
    return found.digest()


@dataclass(frozen=True)
class Copies:
    """Images that are one image.

    Attributes:
        of: What they have in common: "bytes", or the "pixels" alone.
        files: The files by the split that they are in.
    """

    of: Literal["bytes", "pixels"]
    files: dict[str, list[str]]


def copies_of(files: Mapping[str, Sequence[Examined]]) -> list[Copies]:
    """Find images that are there several times, in one split or in several.

    Files of the same length are read, and no others.

    Args:
        files: What the files of each split are like, by its name.

    Returns:
        The groups of two files or more: those of the same bytes and, where pixels were decoded,
        those of the same pixels in files of other bytes.
    """
    placed = [(split, file) for split, of_split in files.items() for file in of_split]
    readable = [(split, file) for split, file in placed if file.size is not None]
    alike = [each for group in _grouped(readable, lambda each: each[1].length) for each in group]
    with ThreadPoolExecutor(cores()) as threads:
        digests = [*threads.map(_digest, (file.path for _, file in alike))]
    of_bytes = _grouped(zip(alike, digests, strict=True), lambda each: each[1])
    same = [[placed for placed, _ in group] for group in of_bytes]
    repeated = {id(file) for group in same for _, file in group[1:]}
    once = [each for each in readable if id(each[1]) not in repeated]
    pixels = _grouped(once, lambda each: each[1].pixels)
    return [Copies("bytes", _by_split(group)) for group in same] + [
        Copies("pixels", _by_split(group)) for group in pixels
    ]


def _by_split(group: Sequence[tuple[str, Examined]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for split, file in group:
        found[split].append(str(file.path))
    return dict(found)


def _digest(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None


def _grouped(values: Iterable[Value], key: Callable[[Value], Key | None]) -> list[list[Value]]:
    """The groups of two or more values that have one key; those without a key are in none."""
    groups: dict[Key, list[Value]] = defaultdict(list)
    for value in values:
        if (found := key(value)) is not None:
            groups[found].append(value)
    return [group for group in groups.values() if len(group) > 1]
