"""JSON files of long lists, of which one entry at a time is in memory.

COCO's annotations of 118,000 images have half a gigabyte, most of it outlines of objects. As Python
objects these take a multiple of that, and most of the time.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

Gather = Callable[[Iterator[Any]], Any]

_PIECE = 2**20  # bytes that are read at once, or more where a value is longer
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")

# A list of lists of numbers by the grammar of JSON. No quantifier gives back what it has taken, as
# no other way to read such a text exists. An integer of more digits is left to Python's own limit.
_S = r"[ \t\n\r]*+"
_NUMBER = r"-?+(?!0[0-9])[0-9]{1,300}+(?:\.[0-9]++)?+(?:[eE][-+]?+[0-9]++)?+"
_NUMBERS = rf"\[{_S}{_NUMBER}(?:{_S},{_S}{_NUMBER})*+{_S}\]"
_LISTS = rf"\[{_S}{_NUMBERS}(?:{_S},{_S}{_NUMBERS})*+{_S}\]"


def load_lists(path: Path, gather: Mapping[str, Gather], unread: str | None = None) -> Any:
    """What ``json.loads`` gives for a file, with something else in the place of some lists.

    Args:
        path: The file.
        gather: What is made of a list that stands at a key of the outermost object, by the key: a
            function of an iterator over the list's entries. It is not called for other values.
        unread: A key, in any object, whose values are not needed: lists of lists of numbers that
            stand there are checked, and are None. Default (None): there is no such key.

    Returns:
        What the file holds.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no JSON, or not in the encoding that its first bytes claim.
        RecursionError: It has lists in lists, or objects in objects, beyond Python's limit.
    """
    if unread is not None:
        pattern = re.compile(rf'("{re.escape(unread)}"{_S}:{_S}){_LISTS}')
        with suppress(ValueError):  # whose place in the whole text is to be said
            return _load(path, gather, lambda piece: pattern.sub(r"\1null", piece))
    return _load(path, gather, lambda piece: piece)


def _load(path: Path, gather: Mapping[str, Gather], shorten: Callable[[str], str]) -> Any:
    with path.open("rb") as file:
        text = _Text(file, shorten)
        value = text.object(gather) if text.next() == "{" else text.only()
        if text.next():
            raise text.error("Extra data", text.at)
        return value


class _Text:
    """A text of JSON, of which one piece after the other is in memory.

    Args:
        file: The file.
        shorten: Leaves out of a piece what is not needed; what is not whole in it has to stay.

    Attributes:
        at: The place in the piece up to which it has been read.
    """

    def __init__(self, file: BinaryIO, shorten: Callable[[str], str]) -> None:
        self._file, self._shorten = file, shorten
        first = file.read(_PIECE)
        self._decoder = codecs.getincrementaldecoder(json.detect_encoding(first))("surrogatepass")
        self._bytes, self._whole = 0, False
        self._piece, self.at = shorten(self._decoded(first)), 0
        self._characters, self._lines, self._column = 0, 0, 0  # of the pieces before

    def next(self) -> str:
        """The next character that is no space, which stays to be read; empty at the end."""
        while True:
            self.at = _behind_space(self._piece, self.at)
            if self.at < len(self._piece):
                return self._piece[self.at]
            if not self._more():
                return ""

    def object(self, gather: Mapping[str, Gather]) -> dict[str, Any]:
        """The object that begins here, as :func:`load_lists` has it."""
        found: dict[str, Any] = {}
        self.at += 1
        if self.next() == "}":
            self.at += 1
            return found
        while True:
            if self.next() != '"':
                raise self.error("Expecting property name enclosed in double quotes", self.at)
            key = self._value(":")
            self.at += 1
            if self.next() == "[" and key in gather:
                entries = self._entries()
                found[key] = gather[key](entries)
                for _ in entries:  # those that were not asked for have to be JSON as well
                    pass
                self._expect(",}")
            else:
                found[key] = self._value(",}")
            if self._passes("}"):
                return found

    def only(self) -> Any:
        """The value that begins here, where it is no object."""
        while self._more():
            pass
        try:
            found, self.at = _DECODER.raw_decode(self._piece, self.at)
        except json.JSONDecodeError as error:
            raise self.error(error.msg, error.pos) from None
        return found

    def error(self, message: str, at: int) -> ValueError:
        """What is wrong at a place of the piece, in the words of ``json``."""
        lines, column = self._lines_before(at)
        return ValueError(
            f"{message}: line {lines + 1} column {column + 1} (char {self._characters + at})"
        )

    def _entries(self) -> Iterator[Any]:
        """The entries of the list that begins here."""
        self.at += 1
        if self.next() == "]":
            self.at += 1
            return
        while True:
            yield self._value(",]")
            if self._passes("]"):
                return
            self.next()

    def _value(self, ends: str) -> Any:
        """The value that begins here, up to the one of several characters that ends it.

        Only that tells a number from the beginning of a longer one, whose rest is not in memory.
        """
        while True:
            try:
                found, end = _DECODER.raw_decode(self._piece, self.at)
            except ValueError as error:
                if self._more():
                    continue
                if isinstance(error, json.JSONDecodeError):
                    raise self.error(error.msg, error.pos) from None
                raise
            if self._piece[end : end + 1] not in (*ends,):
                end = _behind_space(self._piece, end)
            if self._piece[end : end + 1] in (*ends,):
                self.at = end
                return found
            if not self._more():
                raise self.error(f"Expecting {ends[0]!r} delimiter", end)

    def _expect(self, ends: str) -> None:
        if self.next() not in (*ends,):
            raise self.error(f"Expecting {ends[0]!r} delimiter", self.at)

    def _passes(self, mark: str) -> bool:
        """Whether the next character is a mark; it is read in any case."""
        self.at += 1
        return self._piece[self.at - 1] == mark

    def _more(self) -> bool:
        """Add to the piece, without what has been read of it. False: there is no more."""
        if self._whole:
            return False
        content = self._file.read(max(_PIECE, len(self._piece) - self.at))
        self._whole = not content
        further = self._decoded(content)
        if self._whole and not further:
            return False
        self._lines, self._column = self._lines_before(self.at)
        self._characters += self.at
        self._piece, self.at = self._shorten(self._piece[self.at :] + further), 0
        return True

    def _decoded(self, content: bytes) -> str:
        begin = self._bytes - len(self._decoder.getstate()[0])
        self._bytes += len(content)
        try:
            return self._decoder.decode(content, not content)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{error.encoding!r} codec can't decode byte {error.object[error.start]:#04x} in "
                f"position {begin + error.start}: {error.reason}"
            ) from None

    def _lines_before(self, at: int) -> tuple[int, int]:
        """How many lines have ended before a place of the piece, and the characters since."""
        lines = self._piece.count("\n", 0, at)
        column = at - self._piece.rfind("\n", 0, at) - 1
        return self._lines + lines, column if lines else self._column + at


def _behind_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
