"""What a file of weights may cost to read, found out before it is read.

A pickle is a program, and a few megabytes of it can make gigabytes of objects, or tuples of tuples
that take years to hash. A record of a zip archive can unpack to a thousand times its size. So the
program's steps are added up without taking them, and the archive's directory is read first.
"""

import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path

# A checkpoint has some 50 steps for each tensor, and one for each number of a history of losses.
_MOST_STEPS = 3_000_000
_MOST_BYTES = 2**30  # of objects, besides those that the file itself has
_MOST_LEVELS = 1000  # of containers in each other: Python hashes and frees them recursively
_SHARE = 8  # how often a file's own bytes may be used: as text, encoded, in an array, in a dict
# torch and safetensors read it into memory whole; real ones have 100 bytes a tensor.
MOST_HEADER = 2**22
MOST_NAMES = 20_000  # of tensors: the largest detectors have 3000

# What an opcode's object takes in Python, in bytes; 100 with its place in a list for all others.
_COSTS = {
    "MARK": 150,
    "EMPTY_DICT": 240,
    "DICT": 240,
    "EMPTY_SET": 240,
    "FROZENSET": 240,
    "REDUCE": 600,
    "NEWOBJ": 600,
    "NEWOBJ_EX": 600,
    "OBJ": 600,
    "INST": 600,
    "BUILD": 240,
}
_LINES = {"GLOBAL": 2, "INST": 2}  # arguments up to so many line ends
_SIZED = {  # arguments that begin with their own length: bytes of this
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
# These copy, or hash, all that they are given but the container that is first.
_USES = {
    "REDUCE",
    "NEWOBJ",
    "NEWOBJ_EX",
    "OBJ",
    "INST",
    "BUILD",
    "SETITEM",
    "SETITEMS",
    "ADDITEMS",
    "FROZENSET",
}
# What ends a zip archive (PKWARE's APPNOTE.TXT, 4.3.14 to 4.3.16): torch writes all three of them.
# limbeck's own checkpoints end with a comment, their checksum, in which there is no other end.
_SEALED = re.compile(rb"PK\x05\x06.{16}@\x00[0-9a-f]{64}", re.DOTALL)
_SEAL = 64  # bytes
_END_64, _LOCATOR, _END = map(struct.Struct, ("<4sQ2H2L4Q", "<4sLQL", "<4s4H2LH"))
_FILLS = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}


@dataclass(frozen=True, slots=True)
class _Opcode:
    """What one opcode does to the stack, and what it takes.

    Attributes:
        name: Its name in ``pickletools``.
        fixed: The bytes of its argument.
        sized: The bytes of its argument's length, which come first; 0 for none.
        lines: How many lines its argument has.
        takes: How many objects it takes from the stack, besides those down to the mark.
        marked: Whether it takes those down to the mark.
        gives: How many objects it puts there.
        cost: What these take, in bytes.
    """

    name: str
    fixed: int
    sized: int
    lines: int
    takes: int
    marked: bool
    gives: int
    cost: int


def _opcode(of: pickletools.OpcodeInfo) -> _Opcode:
    size = 0 if of.arg is None else of.arg.n
    before = [each for each in of.stack_before if each is not pickletools.stackslice]
    marked = pickletools.markobject in before
    return _Opcode(
        of.name,
        max(size, 0),
        _SIZED.get(size, 0),
        _LINES.get(of.name, 1) if size == pickletools.UP_TO_NEWLINE else 0,
        before.index(pickletools.markobject) if marked else len(before),
        marked,
        len(of.stack_after),
        _COSTS.get(of.name, 100),
    )


_OPCODES = {ord(each.code): _opcode(each) for each in pickletools.opcodes}
# Opcodes that put one object on the stack and do nothing else: the bytes of their arguments.
_PLAIN = {
    code: each.fixed
    for code, each in _OPCODES.items()
    if (each.gives, each.takes, each.marked, each.sized, each.lines) == (1, 0, False, 0, 0)
    and each.name not in ("MARK", "BINGET", "LONG_BINGET")
    and each.cost == 100
}
_ONE = (1, 0)


class TooLargeError(pickle.UnpicklingError):
    """A file would take more memory or time than any file of weights does."""


class _Program:
    """Adds up what a pickle makes, without making it.

    Args:
        content: The bytes of the file.
        start: Where the program begins.
    """

    def __init__(self, content: bytes | mmap, start: int) -> None:
        self.content, self.place = content, start
        self.most = _MOST_BYTES + _SHARE * len(content)
        self.used, self.steps = 0, 0
        # How much each object of the stack unfolds to, as if nothing were shared, and how deep.
        self.stack: list[tuple[int, int]] = []
        self.marks: list[int] = []
        self.memo: dict[int, tuple[int, int]] = {}

    def run(self) -> int:
        """Go through all steps, and return where the program ends."""
        content, stack, end = self.content, self.stack, len(self.content)
        while self.place < end:
            code = content[self.place]
            self.place += 1
            self.steps += 1
            fixed = _PLAIN.get(code)
            if fixed is not None:  # most are, and this is twice as fast
                self.place += fixed
                self.used += 100
                stack.append(_ONE)
            elif code == pickle.STOP[0]:
                return self.place
            else:
                step = _OPCODES.get(code)
                if step is None:
                    raise pickle.UnpicklingError(f"there is no opcode {code:#04x}")
                self.used += step.cost
                self._take(step, self._argument(step))
            if self.used > self.most or self.steps > _MOST_STEPS:
                raise TooLargeError(
                    f"it makes more objects than weights need (more than {_MOST_BYTES >> 20} MiB, "
                    f"or {_MOST_STEPS:,} steps)"
                )
        raise EOFError("the pickle in it ends early")

    def _argument(self, step: _Opcode) -> int:
        """Step over the argument; return its value where it is a place in the memo, or its size."""
        begin = self.place
        if step.sized:
            size = int.from_bytes(self.content[begin : begin + step.sized], "little")
            self.place = begin + step.sized + size
            if self.place > len(self.content):
                raise EOFError("the pickle in it ends early")
            return size
        if step.lines:
            for _ in range(step.lines):
                end = self.content.find(b"\n", self.place)
                if end < 0:
                    raise EOFError("the pickle in it ends early")
                self.place = end + 1
            text = self.content[begin : min(self.place, begin + 20)].strip()
            return int(text) if text.isdigit() else self.place - begin
        self.place = begin + step.fixed
        return int.from_bytes(self.content[begin : self.place], "little") if step.fixed else 0

    def _take(self, step: _Opcode, argument: int) -> None:
        name, stack = step.name, self.stack
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self._top()
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo.get(argument, _ONE))
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "DUP":
            stack.append(self._top())
        elif name == "POP" and self.marks and self.marks[-1] == len(stack):
            self.marks.pop()
        elif step.gives or step.takes or step.marked:
            self._make(step, argument)

    def _make(self, step: _Opcode, argument: int) -> None:
        stack = self.stack
        inner: Sequence[tuple[int, int]] = ()
        if step.marked:
            if not self.marks:
                raise pickle.UnpicklingError("the pickle in it takes more than it has")
            start = self.marks.pop()
            inner = stack[start:]
            del stack[start:]
        if len(stack) < step.takes:
            raise pickle.UnpicklingError("the pickle in it takes more than it has")
        outer = stack[len(stack) - step.takes :]
        del stack[len(stack) - step.takes :]
        if step.name in _USES:
            self.used += sum(size for size, _ in (inner if step.marked else outer[1:]))
        if step.gives:
            made = [*outer, *inner]
            if not made and not step.sized:
                stack.append(_ONE)
                return
            size = 1 + sum([size for size, _ in made]) + (argument if step.sized else 0)
            filled = made[:1] if step.name in _FILLS else []  # is no deeper for being there
            depth = 1 + max([depth for _, depth in made[len(filled) :]], default=-1)
            depth = max([depth, *[depth for _, depth in filled]])
            if depth > _MOST_LEVELS or size > self.most:
                raise TooLargeError(
                    f"it has more than {_MOST_LEVELS} levels of objects in each other, or unfolds "
                    "to more than any file of weights"
                )
            stack.append((size, depth))

    def _top(self) -> tuple[int, int]:
        if not self.stack:
            raise pickle.UnpicklingError("the pickle in it takes more than it has")
        return self.stack[-1]


def check_program(content: bytes | mmap, start: int = 0) -> int:
    """Refuse a pickle that would make much more than there is in its file.

    Args:
        content: The bytes of the file.
        start: Where the pickle begins in them.

    Returns:
        Where it ends.

    Raises:
        TooLargeError: It would take more memory or time than any file of weights does.
        pickle.UnpicklingError: It is no pickle.
        EOFError: It is cut off.
    """
    return _Program(content, start).run()


def check_archive(path: Path) -> None:
    """Refuse a zip archive that torch.save did not write: its records are plain, and in a row.

    Args:
        path: The archive.

    Raises:
        TooLargeError: A record is compressed, lies in another or beyond the end of the file, or
            its pickle would take too much; or torch would read another directory.
        zipfile.BadZipFile: It is no zip archive.
    """
    size, end = path.stat().st_size, 0
    with zipfile.ZipFile(path) as archive:
        _refuse_other_directory(path, size)
        for record in sorted(archive.infolist(), key=lambda record: record.header_offset):
            name = record.filename
            if record.compress_type != zipfile.ZIP_STORED:
                raise TooLargeError(
                    f"its record {name} is compressed, as torch.save never does. Unpack it, and "
                    "pack it anew with `zip -0`, if you know who made it"
                )
            if record.header_offset < end or record.header_offset + record.file_size > size:
                raise TooLargeError(
                    f"its record {name} of {record.file_size:,} bytes lies in another one or "
                    f"beyond the end of the file, which has {size:,}"
                )
            if record.file_size != record.compress_size:
                raise TooLargeError(f"its record {name} has two sizes")
            end = record.header_offset + record.file_size
        for name in archive.namelist():
            if name.endswith("data.pkl"):
                check_program(archive.read(name))


def _refuse_other_directory(path: Path, size: int) -> None:
    """Refuse an archive with two directories of records.

    Python reads the one before the archive's end, and torch the one whose place that end states.
    """
    with path.open("rb") as file:
        file.seek(max(0, size - _END.size - _SEAL))
        size -= _SEAL if _SEALED.fullmatch(file.read()) else 0
        file.seek(max(0, size - _END_64.size - _LOCATOR.size - _END.size))
        tail = file.read(_END_64.size + _LOCATOR.size + _END.size)
    before, last = tail[: -_END.size], tail[-_END.size :]
    mark, *_, length, start, _ = _END.unpack(last)
    end, is_plain = size - _END.size, mark == b"PK\5\6"  # and no comment follows it
    if before[-_LOCATOR.size :].startswith(b"PK\6\7"):
        first, locator = before[: -_LOCATOR.size], before[-_LOCATOR.size :]
        end -= _END_64.size + _LOCATOR.size
        mark, *_, length, start = _END_64.unpack(first.rjust(_END_64.size))
        is_plain = is_plain and mark == b"PK\6\6" and _LOCATOR.unpack(locator)[2] == end
    if not is_plain or start + length != end:
        raise TooLargeError(
            "the directory of its records is not where its end says, so that programs would read "
            "different records. Pack it anew with `zip -0`, if you know who made it"
        )


def check_legacy(content: mmap) -> None:
    """Refuse a file of torch.save's old format that would take much more than there is in it.

    Args:
        content: The bytes of the file: a mark, the version, the machine, the object and the names
            of its storages, each a pickle, and the numbers.

    Raises:
        TooLargeError: One of them would.
    """
    place = 0
    for _ in range(5):
        place = check_program(content, place)
