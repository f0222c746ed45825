"""Files that a run writes: none that cannot be written ends it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

log = logging.getLogger(__name__)

UNWRITTEN: dict[Path, str] = {}  # what this run could not write so far, and why


@contextmanager
def outlived(path: Path) -> Iterator[None]:
    """Let the run go on where a file cannot be written, such as on a full disk.

    It is said once, and kept in ``UNWRITTEN`` until the file is written after all.

    Args:
        path: The file, or the folder of what is written.

    Yields:
        Nothing.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, SafetensorError) and "I/O error" not in str(error):
            raise
        if path not in UNWRITTEN:
            log.error("%s could not be written (%s). Training goes on.", path, reason(error))
        UNWRITTEN[path] = reason(error)
    else:
        UNWRITTEN.pop(path, None)


def reason(error: BaseException) -> str:
    """Why something could not be written, in a few words: ``No space left on device``."""
    text = getattr(error, "strerror", None) or str(error)
    return text.rpartition("I/O error: ")[2].partition(" (os error")[0]
