"""Files that are there whole, or as they were before: each is written beside its place."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a place beside a file to write to, and put what was written in the file's own place.

    It is waited for until it is on the disk. Where an error ends the writing, what was there before
    stays, and nothing is left beside it; a killed process leaves ``NAME.part``.

    Args:
        path: The file. Its folder is made where it is missing.

    Yields:
        The place to write to, ``NAME.part``.

    Raises:
        OSError: It cannot be written.
    """
    partial = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        with partial.open("rb+") as file:  # Windows waits for files alone that are open to write
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a text, in UTF-8 and with its own ends of lines, whole or not at all.

    Args:
        path: The file. Its folder is made where it is missing.
        text: What it is to hold.

    Raises:
        OSError: It cannot be written. What was there before stays.
    """
    with written_whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
