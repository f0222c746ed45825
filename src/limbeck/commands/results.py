"""What ``limbeck predict`` writes: pictures, and the files of results, which grow by batches."""

import csv
import json
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from limbeck.commands.video import FILM, Frame, film_software
from limbeck.names import file_names, folded
from limbeck.report.style import is_replaceable
from limbeck.texts import MOST_ROWS, read_text
from limbeck.whole import write_whole

RESULTS = "predictions.json"
TABLE = "predictions.csv"
COLUMNS = ("image", "frame", "time", "class", "score", "x1", "y1", "x2", "y2")
SOFTWARE = "limbeck predict"  # by which pictures of an earlier call are known
_END = b"\n}\n"


class Results:
    """The file of results, which is valid JSON after each batch, and grows by what is new.

    It takes the place of an earlier file with the first results, or at the end where there are
    none.

    Args:
        target: The file. Its folder has to be there.

    Attributes:
        count: The number of images that have results.
    """

    def __init__(self, target: Path) -> None:
        self.target, self.count = target, 0
        self._file: FileIO | None = None

    def __enter__(self) -> Self:
        """Begin; nothing is written yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file; where all images are done and none has results, write that."""
        if self._file is not None:
            self._file.close()
        elif error is None:
            write_whole(self.target, "{}\n")

    def add(self, found: Mapping[str, Any]) -> None:
        """Write the results of some more images.

        Args:
            found: What was found on each image, by its path.

        Raises:
            OSError: They cannot be written. The file is then as it was.
        """
        if not found:
            return
        self.count += len(found)
        text = json.dumps(found, indent=2)
        if self._file is None:
            write_whole(self.target, text + "\n")
            self._file = FileIO(self.target, "r+")
        else:
            self._append(self._file, f",{text[1:]}\n".encode())

    @staticmethod
    def _append(file: FileIO, data: bytes) -> None:
        """Write over the end of the file, which the data end with as well."""
        end = file.seek(-len(_END), os.SEEK_END)
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.seek(end)
            file.write(_END)  # into bytes that the file has already
            file.truncate()
            raise


class Table:
    """The table of results: a row for each detection, or for each of a classifier's answers.

    Of a frame, the image is the video, with the frame's number and its time in seconds. What is not
    there is empty: those two of an image file, and the box of a class.

    Args:
        target: The file. Its folder has to be there, and an earlier file is replaced.
    """

    def __init__(self, target: Path) -> None:
        # A name may hold bytes that are no text.
        self._file = target.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        self._rows = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")
        self._rows.writeheader()

    def __enter__(self) -> Self:
        """Begin; the names of the columns are written."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def add(self, image: Path | Frame, found: Iterable[Mapping[str, Any]]) -> None:
        """Write what was found on an image.

        Args:
            image: The image file, or the frame of a video.
            found: Each ``class`` and ``score``, and of a detection the ``box``.
        """
        place: dict[str, object] = {"image": str(image)}
        if isinstance(image, Frame):
            place = {"image": image.video, "frame": image.number, "time": round(image.time, 3)}
        for each in found:
            box = dict(zip(COLUMNS[-4:], each.get("box", ()), strict=False))
            name = {"class": each["class"], "score": each["score"]}
            self._rows.writerow({**place, **name, **box})
        self._file.flush()


def picture_files(paths: Sequence[Path], output: Path, suffix: str = ".png") -> dict[Path, Path]:
    """The picture that is drawn of each image, another one for each on every disk.

    Args:
        paths: The images.
        output: The folder of the pictures.
        suffix: Their suffix.

    Returns:
        The pictures by their images.

    Raises:
        ValueError: Two images have the same name, so that nobody could tell their pictures apart.
    """
    for stem, count in Counter(path.stem for path in paths).most_common(1):
        if count > 1:
            raise ValueError(
                f"{count} images are called {stem!r}: their pictures would overwrite each other. "
                "Give them in separate calls with an --output of their own."
            )
    names = file_names({path: f"{path.stem}{suffix}" for path in paths})
    return {path: output / name for path, name in names.items()}


def refuse_replacing(inputs: Iterable[Path], targets: Iterable[Path]) -> None:
    """Refuse results in the place of images, or of files that are no results of an earlier call.

    Args:
        inputs: The images.
        targets: The files that are to be written.

    Raises:
        FileExistsError: A target is an image, also under another name of the file or its folder, or
            a file that `limbeck predict` has not written.
    """
    known = {name: path for path in inputs for name in _names_of(path)}
    for target in targets:
        there = next((known[name] for name in _names_of(target) if name in known), None)
        if there is not None:
            raise FileExistsError(
                f"{target} would replace the image {there}. Nothing was written: choose another "
                "folder with --output."
            )
        if not _is_replaceable(target):
            raise FileExistsError(
                f"{target} is there, and is no result of `limbeck predict`. Nothing was written: "
                "choose another folder with --output, or move that file away."
            )


def _names_of(path: Path) -> set[Hashable]:
    """What two paths have in common that lead to one file, on this disk or on another one."""
    names: set[Hashable] = {folded(os.path.realpath(path))}
    with suppress(OSError):
        found = path.stat()
        names.add((found.st_dev, found.st_ino))
    return names


def _is_replaceable(target: Path) -> bool:
    """Whether a result may be written: nothing is there, or a result of an earlier call."""
    if target.is_file() and not target.is_symlink():
        if target.suffix == FILM:
            return film_software(target) == SOFTWARE
        if target.name == TABLE:
            return _first_line(target) == ",".join(COLUMNS).encode()
    if target.name != RESULTS or not os.path.lexists(target):
        return is_replaceable(target, SOFTWARE)
    with suppress(OSError, ValueError):
        text = read_text(target, MOST_ROWS)
        # A call that was killed within a write leaves whole results, and a part of the next ones.
        whole, comma, _ = text.rpartition("],\n")
        is_ours = _is_results(text) or _is_results(f"{whole}]\n}}" if comma else "")
        return is_ours and not target.is_symlink()
    return False


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(1000).rstrip()


def _is_results(text: str) -> bool:
    with suppress(ValueError, RecursionError):
        content = json.loads(text)
        return isinstance(content, dict) and all(map(_is_found, content.values()))
    return False


def _is_found(value: Any) -> bool:
    """Whether a value is what was found on an image, as it stands in the results."""
    return isinstance(value, list) and all(
        isinstance(each, dict) and {"class", "score"} <= each.keys() <= {"class", "score", "box"}
        for each in value
    )
