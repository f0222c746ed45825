"""What has been done of a long piece of work, line by line, so that a killed one goes on."""

import fcntl
import json
import logging
import os
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

log = logging.getLogger(__name__)


class Journal:
    """A file of JSON lines: what the work is, what it began with, and what is done of it.

    One process alone writes in it. A line that a killed process has left without its end is taken
    off. The file is removed when the work is finished.

    Args:
        path: The file.
        work: What the work is: a journal of other work is refused.
        begin: Gives what the work begins with, which takes long; it is called where there is no
            journal yet.

    Attributes:
        start: What the work began with.
        done: What is done, by the name of each piece.

    Raises:
        BlockingIOError: Another process writes in it.
        FileExistsError: The file is a journal of other work.
    """

    def __init__(
        self, path: Path, work: Mapping[str, Any], begin: Callable[[], dict[str, Any]]
    ) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = FileIO(path, "a+")
        try:
            self._lock()
        except BaseException:
            self._file.close()  # another process writes in it
            raise
        try:
            self.start, self.done = self._read(work, begin)
        except BaseException:
            if not path.stat().st_size:
                path.unlink()  # while it is locked
            self._file.close()
            raise

    def __enter__(self) -> Self:
        """Begin, or go on."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file, which stays where the work has not been finished."""
        self._file.close()

    def add(self, pieces: Mapping[str, Any]) -> None:
        """Note what is done.

        Args:
            pieces: The result of each piece, by its name.

        Raises:
            OSError: It cannot be written.
        """
        lines = "".join(f"{json.dumps([name, result])}\n" for name, result in pieces.items())
        self._write(lines)
        self.done |= pieces

    def remove(self) -> None:
        """Remove the file: the work is finished."""
        self.path.unlink()

    def _lock(self) -> None:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not isinstance(error, BlockingIOError | PermissionError):
                return  # a file system without locks
            raise BlockingIOError(
                f"another process writes in {self.path}. Wait until it ends, or choose another "
                "--output."
            ) from None

    def _read(
        self, work: Mapping[str, Any], begin: Callable[[], dict[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        self._file.seek(0)
        content = self._file.readall()  # to open and close it by its path would unlock it
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.ftruncate(self._file.fileno(), len(whole))
        lines = whole.splitlines()
        if not lines:
            start = begin()
            self._write(f"{json.dumps([dict(work), start])}\n")
            return start, {}
        before, start = json.loads(lines[0])
        if before != json.loads(json.dumps(dict(work))):
            differing = [key for key in work if before.get(key) != work[key]]
            raise FileExistsError(
                f"{self.path} is of other work: it differs in {', '.join(differing)} "
                f"({', '.join(str(before.get(key)) for key in differing)}). Give what was given "
                "before to go on, or remove that file to begin anew."
            )
        done = dict(json.loads(line) for line in lines[1:])
        log.info("%s: goes on, as %d pieces are done.", self.path, len(done))
        return start, done

    def _write(self, text: str) -> None:
        data = text.encode()
        end = self._file.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError:
            self._file.truncate(end)
            raise
