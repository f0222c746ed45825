"""Pickled weights, read without running any code that a file names.

A pickle is a program: it names functions, calls them, and sets their results' state. Here it gets
stand-ins for the few names that arrays are pickled with, which build arrays of numbers and nothing
else; any other name is refused. numpy's own functions are never called: their ``__setstate__``
takes whatever types, shapes and objects a file states.
"""

import pickle
import re
import reprlib
import struct
from collections.abc import Callable, Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from limbeck.checkpoints.reading.bounds import check_program
from limbeck.checkpoints.tensors import Tensors

_PLAIN_NUMBERS = re.compile(r"[biufc]\d{1,2}")  # bool, signed, unsigned, float, complex; bytes each


class Inert:
    """Stands for an object that is not wanted: whatever it is made from is forgotten."""

    __slots__ = ()

    def __new__(cls, *_: object) -> "Inert":
        """From anything."""
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        """Forget it."""


class NumberType:
    """Stands for ``numpy.dtype``, of plain numbers alone."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not _PLAIN_NUMBERS.fullmatch(code):
            raise pickle.UnpicklingError(
                f"an array of {reprlib.repr(code)}, which are no plain numbers"
            )
        self.numpy = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        """Of numpy's state, the byte order is all that plain numbers have."""
        if state[1] in ("<", ">"):
            self.numpy = self.numpy.newbyteorder(state[1])


class Array:
    """Stands for ``numpy.ndarray``.

    Once its state was set, ``numpy`` is the array, writable and in this machine's byte order.
    """

    def __init__(self, *_: object) -> None:
        self.numpy: np.ndarray[Any, Any] = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        """From numpy's (version, shape, type, whether in Fortran's order, bytes)."""
        _, shape, kind, fortran, data = state
        self.numpy = _array(data, kind, shape, "F" if fortran else "C")


def _array(data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    raw = data.encode("latin1") if isinstance(data, str) else data  # Python 2 pickles str
    if not isinstance(kind, NumberType) or not isinstance(raw, bytes | bytearray):
        raise pickle.UnpicklingError(
            f"an array of {type(kind).__name__} from {type(raw).__name__}, not of numbers"
        )
    found = np.ndarray(shape, kind.numpy, raw, order=order)
    if found.nbytes != len(raw):
        raise pickle.UnpicklingError(
            f"an array of {found.nbytes} bytes, of which it has {len(raw)}"
        )
    return np.array(found, dtype=kind.numpy.newbyteorder("="), order="C")


def _reconstruct(kind: object, *_: object) -> Array:
    if kind is not Array:
        raise pickle.UnpicklingError(f"an array of the class {reprlib.repr(kind)}")
    return Array()


def _scalar(kind: object, data: object = b"") -> object:
    return _array(data, kind, (), "C").item()


def _from_buffer(data: object, kind: object, shape: Any, order: str, axes: Any = None) -> Array:
    """What protocol 5 calls for contiguous arrays; ``axes`` with the order ``K``."""
    array = Array()
    found = _array(data, kind, shape, "C" if order == "K" else order)
    array.numpy = found if axes is None else np.ascontiguousarray(found.transpose(axes))
    return array


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes for Python 2."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes encoded as {reprlib.repr(encoding)}")
    return text.encode("latin1")


def _no_bytes(*given: object) -> bytes:
    """The one call of ``bytes`` in a pickle of protocol 2: of empty ones."""
    if given:
        raise pickle.UnpicklingError("a call of bytes with arguments")
    return b""


_NUMPY: Mapping[str, Callable[..., Any]] = {
    "multiarray._reconstruct": _reconstruct,
    "multiarray.scalar": _scalar,
    "numeric._frombuffer": _from_buffer,
}

STAND_INS: Mapping[str, Callable[..., Any]] = {
    "numpy.ndarray": Array,
    "numpy.dtype": NumberType,
    **{f"numpy.core.{name}": stand_in for name, stand_in in _NUMPY.items()},  # numpy 1
    **{f"numpy._core.{name}": stand_in for name, stand_in in _NUMPY.items()},  # numpy 2
}
"""What the names in numpy's pickles stand for here."""

_CONTAINERS: Mapping[str, Callable[..., Any]] = {
    "collections.OrderedDict": dict,
    "_codecs.encode": _encode,
    "builtins.bytes": _no_bytes,
    "__builtin__.bytes": _no_bytes,
}


# The C unpickler sets the state of whatever a file says, functions and classes too, and takes the
# memory that a file says it needs; the one in Python can be kept from both.
class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    read: Callable[[int], bytes]
    append: Callable[[Any], None]

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        found = STAND_INS.get(full) or _CONTAINERS.get(full)
        if found is None:
            raise pickle.UnpicklingError(f"the file asks for {full}")
        return found

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError(f"the file asks for the extension {code} of copyreg")

    def persistent_load(self, pid: Any) -> None:
        raise pickle.UnpicklingError(f"the file asks for the object {reprlib.repr(pid)} outside it")

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Array | NumberType):
            target.__setstate__(state)
        elif type(target) is not dict:  # an OrderedDict's attributes are forgotten
            raise pickle.UnpicklingError(f"the file sets the state of {reprlib.repr(target)}")

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


def read_pickle(path: Path) -> Any:
    """What a pickle of protocol 0 to 5 holds; ``Array`` stands where it has an array.

    Detectron2's own are read: ``{"model": {name: array}, "__author__": ...}``, by Python 2 or 3.

    Args:
        path: The path of the file.

    Returns:
        What the file holds.

    Raises:
        pickle.UnpicklingError: The file asks for anything but arrays of numbers, plain containers,
            numbers and strings; it is named.
        TooLargeError: It would take more memory or time than any file of weights does.
        Exception: The file is damaged. What is raised is up to its bytes.
    """
    # A map gives what there is, however much a damaged file asks for.
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        check_program(content)
        return _Unpickler(content, encoding="latin1").load()


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        """Arrays by names that numpy 1 and 2 share; numpy's own function has moved."""
        if isinstance(obj, np.ndarray):
            return np.ndarray, ((0,),), obj.__reduce__()[2]
        return NotImplemented


def write_pickle(
    path: Path,
    tensors: Tensors,
    *,
    author: str = "limbeck",
    matching_heuristics: bool = False,
) -> None:
    """Keep ``tensors`` as Detectron2's model zoo does.

    Args:
        path: The file that ``cfg.MODEL.WEIGHTS`` is to name, ``.pkl``.
        tensors: The tensors by Detectron2's names. bfloat16, which numpy lacks, becomes float32.
        author: The value of ``__author__``.
        matching_heuristics: Whether the names are a backbone's own, for Detectron2 to match by
            their ends.
    """
    content = {
        "model": {name: _to_numpy(tensor) for name, tensor in tensors.items()},
        "__author__": author,
        "matching_heuristics": matching_heuristics,
    }
    with path.open("wb") as file:
        _Pickler(file, protocol=2).dump(content)


def _to_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    plain = tensor.detach().cpu().contiguous()
    array: np.ndarray[Any, Any] = (
        plain.float() if plain.dtype == torch.bfloat16 else plain
    ).numpy()
    return array
