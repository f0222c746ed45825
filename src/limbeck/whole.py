"""Files and folders that are there whole, or as they were: each is written beside its place."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path, *, wait: bool = True) -> Iterator[Path]:
    """Give a new file beside a file to write to, and put it in the file's place.

    Where an error ends the writing, what was there before stays, and nothing is left beside it; a
    killed process leaves a hidden file that ends with ``.part``.

    Args:
        path: The file. Its folder is made where it is missing.
        wait: Whether to wait until what was written is on the disk.

    Yields:
        The new file, which is empty.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{secrets.token_hex(8)}.part")  # short, and nobody else's
    partial.touch(exist_ok=False)
    try:
        yield partial
        if wait:
            with partial.open("rb+") as file:  # Windows waits for files alone that can be written
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """Give a new folder beside a folder to write to, and put it in its place.

    Where an error ends the writing, nothing is left of it; a killed process leaves a hidden folder
    that ends with ``.part``.

    Args:
        path: The folder, which is not there, or is empty. The one that it lies in is made where it
            is missing.

    Yields:
        The new folder, which is empty.

    Raises:
        OSError: It cannot be written, or something is in the folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{secrets.token_hex(8)}.part")
    partial.mkdir()
    try:
        yield partial
        if path.is_dir():
            path.rmdir()  # Windows replaces no folder, not even an empty one
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_whole(path: Path, contents: str | bytes) -> None:
    """Write a file, whole or not at all.

    Args:
        path: The file. Its folder is made where it is missing.
        contents: What it is to hold. A text is written in UTF-8, with its own ends of lines.

    Raises:
        OSError: It cannot be written. What was there before stays.
    """
    with written_whole(path) as partial:
        partial.write_bytes(contents.encode() if isinstance(contents, str) else contents)
