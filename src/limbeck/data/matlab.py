"""Files of MATLAB's version 5: numbers, texts and cells of them; anything else is refused.

The format is described in MathWorks' "MAT-File Format" (R2023b), chapter 1. scipy's reader of it is
compiled code that trusts the lengths in a file, and ends the process where one of them is damaged.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Value = NDArray[np.generic] | NDArray[np.object_] | str

_INT32, _UINT32, _MATRIX, _COMPRESSED = 5, 6, 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"} | {
    12: "i8",
    13: "u8",
}
_TEXTS = {1: "latin1", 2: "latin1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _CHAR, _NUMERIC = 1, 4, range(6, 16)  # classes of matrices
_HEADER = 128
_MOST_BYTES = 2**28  # unpacked, together; the largest file of WIDER FACE has 20 MB
_MOST_LEVELS = 8  # of cells in cells; WIDER FACE has two
_MOST_MATRICES = 2**20  # in a file: an empty one has 8 bytes there, and takes 100 and some time


def read_matlab(path: Path) -> dict[str, Value]:
    """The variables of a file.

    Args:
        path: The file.

    Returns:
        The values by name: an array of numbers with MATLAB's dimensions, two at least; an array of
        objects for cells, whose items are values again; a string for a row of characters.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged, of another version, or holds other things.
    """
    content = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is None or content[124:126] not in (b"\x00\x01", b"\x01\x00"):
        raise ValueError("it is no file of MATLAB's version 5 (save it with -v7, not -v7.3)")
    variables: dict[str, Value] = {}
    reader, left = _Reader(content[_HEADER:], order), _MOST_BYTES
    budget = iter(range(_MOST_MATRICES))
    while reader.place < len(reader.content):
        kind, data = reader.element()
        if kind == _COMPRESSED:
            unpacked = _unpack(data, left)
            left -= len(unpacked)
            kind, data = _Reader(unpacked, order).element()
        if kind != _MATRIX:
            raise ValueError(f"it has an element of the type {kind} where a matrix should be")
        name, value = _matrix(data, order, budget, 0)
        variables[name] = value
    return variables


def _unpack(data: bytes, most: int) -> bytes:
    """Of a variable that is compressed, ``most`` bytes at most."""
    try:
        unpacked = zlib.decompressobj().decompress(data, most + 1)  # 0 would be no bound
    except zlib.error as error:
        raise ValueError(f"it cannot be unpacked ({error})") from None
    if len(unpacked) > most:
        raise ValueError(f"it unpacks to more than {_MOST_BYTES:,} bytes")
    return unpacked


class _Reader:
    """Reads one element of the format after the other.

    Args:
        content: The bytes.
        order: Their order, ``<`` or ``>``.
    """

    def __init__(self, content: bytes, order: str) -> None:
        self.content, self.order, self.place = content, order, 0

    def element(self) -> tuple[int, bytes]:
        """The type of the next element, and its bytes."""
        head = self.content[self.place : self.place + 8]
        if len(head) < 8:
            raise ValueError("it ends early")
        kind, size = struct.unpack(f"{self.order}II", head)
        if kind >> 16:  # up to four bytes lie in the head itself
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise ValueError("it is damaged: a short element is too long")
            self.place += 8
            return kind, head[4 : 4 + size]
        start = self.place + 8
        data = self.content[start : start + size]
        if len(data) < size:
            raise ValueError("it ends early")
        self.place = start + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        return kind, data

    def numbers(self, kinds: tuple[int, ...] = tuple(_NUMBERS)) -> NDArray[np.generic]:
        """The numbers of the next element, which is of one of these types."""
        kind, data = self.element()
        if kind not in kinds:
            raise ValueError(f"it has an element of the type {kind} where numbers should be")
        type_ = np.dtype(self.order + _NUMBERS[kind])
        if len(data) % type_.itemsize:
            raise ValueError("it is damaged: the bytes of an element are no whole numbers")
        return np.frombuffer(data, type_)


def _matrix(data: bytes, order: str, budget: Iterator[int], level: int) -> tuple[str, Value]:
    """The name and the value of a matrix, of which the bytes are given."""
    if next(budget, None) is None:
        raise ValueError(f"it has more than {_MOST_MATRICES:,} matrices and cells")
    if not data:
        return "", np.empty((0, 0))
    if level > _MOST_LEVELS:
        raise ValueError(f"it has more than {_MOST_LEVELS} levels of cells")
    reader = _Reader(data, order)
    flags = reader.numbers((_UINT32,)).tolist()
    shape = tuple(int(side) for side in reader.numbers((_INT32,)))
    name = reader.element()[1].decode("latin1")
    if not flags or len(shape) < 2 or min(shape) < 0:
        raise ValueError("it is damaged: a matrix has no class, or no dimensions")
    kind, count = flags[0] & 0xFF, int(np.prod(shape, dtype=object))
    if kind == _CELL:
        if count > len(data) // 8:  # which each cell needs at least
            raise ValueError("it is damaged: it has fewer cells than it says")
        cells = np.empty(count, object)
        for i in range(count):
            kind, inner = reader.element()
            if kind != _MATRIX:
                raise ValueError(f"it has a cell of the type {kind}")
            cells[i] = _matrix(inner, order, budget, level + 1)[1]
        return name, cells.reshape(shape, order="F")
    if kind == _CHAR:
        return name, _text(reader, shape)
    if kind not in _NUMERIC or flags[0] & 0x0800:
        raise ValueError(f"it has a matrix of the class {kind}, neither numbers nor cells nor text")
    values = reader.numbers()
    if values.size != count:
        raise ValueError(f"it is damaged: a matrix of {count} numbers has {values.size}")
    return name, values.reshape(shape, order="F")


def _text(reader: _Reader, shape: tuple[int, ...]) -> str:
    kind, data = reader.element()
    if kind not in _TEXTS or (0 not in shape and shape[0] != 1):
        raise ValueError("it has characters that are no row of text")
    order = {"<": "-le", ">": "-be"}[reader.order] if kind in (4, 17, 18) else ""
    return data.decode(_TEXTS[kind] + order)
