import copyreg
import io
import os
import pickle
import re
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbeck.checkpoints.reading.pickles import Array, read_pickle, write_pickle

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.call


def kept(tmp_path: Path, content: Any, protocol: int = 2) -> Path:
    path = tmp_path / "kept.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


def arrays(read: dict[str, Array]) -> dict[str, np.ndarray]:
    return {name: value.numpy for name, value in read.items()}


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    content = {
        "plain": WEIGHT,
        "transposed": np.asfortranarray(WEIGHT),
        "strided": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2)[:, :, ::2],
        "permuted": np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0),
        "swapped": WEIGHT.astype(">f4"),
        "half": WEIGHT.astype(np.float16),
        "count": np.array(3),
        "flags": np.array([True, False]),
        "empty": np.empty((0, 4), np.float32),
    }
    read = arrays(read_pickle(kept(tmp_path, {"model": content}, protocol))["model"])
    assert read.keys() == content.keys()
    for name, value in content.items():
        np.testing.assert_array_equal(read[name], value, name)
        assert read[name].dtype == value.dtype.newbyteorder("="), name
        assert read[name].shape == value.shape
        assert read[name].flags.writeable


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    content = {
        "__author__": "Caffe2",
        "matching_heuristics": True,
        "model": OrderedDict([("é", None), ("b", [1, 2.5, (3, 10**30)])]),
        "best": np.float64(0.5),
    }
    assert read_pickle(kept(tmp_path, content, protocol)) == content


def python_2(array: np.ndarray, protocol: int) -> bytes:
    """As Python 2 and numpy 1 wrote it: text and bytes alike are ``str``."""
    text = repr(array.tobytes())[1:].encode()
    raw = b"S" + text + b"\n" if protocol == 0 else b"U" + bytes([array.nbytes]) + array.tobytes()
    shape = b"(I%d\nI%d\nt" % array.shape
    return b"".join(
        [
            b"\x80\x02" if protocol else b"",
            b"(dp0\nS'model'\np1\n(dp2\nS'w'\np3\n",
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR",
            b"(I1\n" + shape + b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR",
            b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n" + raw + b"tbss.",
        ]
    )


@pytest.mark.parametrize("protocol", [0, 2])
def test_files_of_python_2(protocol: int, tmp_path: Path) -> None:
    array = np.array([[0.5, -1], [3e38, 1e-30]], np.float32)
    content = python_2(array, protocol)
    reference = pickle.loads(content, encoding="latin1")
    np.testing.assert_array_equal(reference["model"]["w"], array)
    read = arrays(read_pickle(kept(tmp_path, content))["model"])
    np.testing.assert_array_equal(read["w"], array)


def test_what_is_written_is_plain_pickle_and_reads_back(tmp_path: Path) -> None:
    tensors = {
        "a.weight": torch.randn(4, 3, 2).transpose(0, 2).requires_grad_(),
        "half": torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
        "count": torch.tensor(7),
    }
    path = tmp_path / "model.pkl"
    write_pickle(path, tensors, author="limbeck 0", matching_heuristics=True)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pkl"]
    content = path.read_bytes()
    assert content[:2] == b"\x80\x02"
    assert b"numpy._core" not in content  # numpy 1 has no such module
    for read in (pickle.loads(content, encoding="latin1"), read_pickle(path)):
        assert read["__author__"] == "limbeck 0"
        assert read["matching_heuristics"] is True
        for name, tensor in tensors.items():
            value = read["model"][name]
            value = value.numpy if isinstance(value, Array) else value
            np.testing.assert_array_equal(value, tensor.detach().to(torch.float64).numpy())
    assert read["model"]["half"].numpy.dtype == np.float32


def escapes(touched: Path) -> dict[str, Any]:
    """Pickles that run something, or would, with the name that is to be refused."""
    touch = f"open({str(touched)!r}, 'w')"
    hidden = np.array([Call(eval, touch)], dtype=object)
    subtype = Call(np.array(0).__reduce__()[0], np.memmap, (0,), b"b")
    return {
        f"{os.system.__module__}.system": Call(os.system, f"touch {touched}"),
        "eval": Call(eval, touch),
        "exec": Call(exec, touch),
        "io.open": Call(open, str(touched), "w"),
        "getattr": Call(getattr, int, "__subclasses__"),
        "Popen": Call(subprocess.Popen, ["touch", str(touched)]),
        "numpy.load": Call(np.load, str(touched)),
        "numpy.fromfile": Call(np.fromfile, str(touched)),
        "numpy.testing._private.utils.runstring": Call(np.testing.runstring, touch, {}),
        "numpy.memmap": subtype,
        "'O8', which are no plain numbers": hidden,
        "torch._utils._rebuild_tensor_v2": torch.ones(1),
        "_reconstructor": Call(copyreg._reconstructor, Path, object, None),  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize("name", escapes(Path("x")))
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_runs_code_is_refused_by_name(name: str, protocol: int, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    content = pickle.dumps({"a": WEIGHT, "b": escapes(touched)[name]}, protocol)
    path = kept(tmp_path, content)
    with pytest.raises(pickle.UnpicklingError, match=re.escape(name)):
        read_pickle(path)
    assert not touched.exists()


@pytest.mark.parametrize(
    "name",
    [
        "numpy.core.multiarray.fromfile",
        "numpy._core.multiarray.fromstring",
        "numpy.core.multiarray",
        "numpy.matrix",
        "numpy.record",
        "numpy.ma.core._mareconstruct",
        "collections.defaultdict",
        "functools.partial",
        "operator.attrgetter",
        "builtins.bytes.__class__",
        "limbeck.checkpoints.reading.pickles.read_pickle",
    ],
)
def test_other_names_of_numpy_and_python_are_refused(name: str, tmp_path: Path) -> None:
    module, _, attribute = name.rpartition(".")
    content = f"c{module}\n{attribute}\n.".encode()
    with pytest.raises(pickle.UnpicklingError, match=f"asks for {re.escape(name)}$"):
        read_pickle(kept(tmp_path, content))


def opcodes(*given: bytes) -> bytes:
    return b"\x80\x02" + b"".join(given) + b"."


NDARRAY, DTYPE = b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"
FLOAT = DTYPE + b"(U\x02f4tR"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (opcodes(b"\x82\x07"), "extension 7"),
        (opcodes(b"Pmodule\n"), "object 'module' outside it"),
        (opcodes(b"U\x01aQ"), "object 'a' outside it"),
        (opcodes(b"(ios\nsystem\n"), r"asks for os\.system"),
        (opcodes(b"(cbuiltins\neval\no"), r"asks for builtins\.eval"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", r"asks for os\.system"),
        # State of a class or a function would stay in this process.
        (opcodes(NDARRAY, b"}U\x05numpyNsb"), "sets the state of <class"),
        (opcodes(b"c_codecs\nencode\n}U\x0c__defaults__)sb"), "sets the state of <function"),
        (opcodes(b"cbuiltins\nbytes\n(J\x00\x00\x00\x7ftR"), "bytes with arguments"),
        (opcodes(b"c_codecs\nencode\n(U\x01aU\x03hextR"), "encoded as 'hex'"),
        # Arrays of more than there is, of what is no array, of what is no number.
        (opcodes(NDARRAY, b"(tR(I1\n(L9999999999L\nt", FLOAT, b"I00\nU\x04abcdtb"), "buffer"),
        (opcodes(NDARRAY, b"(tR(I1\n(I1\nt", FLOAT, b"I00\nU\x08abcdefghtb"), "4 bytes, of which"),
        (opcodes(NDARRAY, b"(tR(I1\n(I-1\nI-1\nt", FLOAT, b"I00\nU\x04abcdtb"), "negative"),
        (opcodes(NDARRAY, b"(tR(I1\n(I1\nt", FLOAT, b"I00\n(lp0\ntb"), "from list, not of numbers"),
        (opcodes(NDARRAY, b"(tR(I1\n(I1\ntNI00\nU\x04abcdtb"), "of NoneType"),
        (opcodes(DTYPE, b"(U\x02V8tR"), "'V8', which are no plain numbers"),
        (opcodes(DTYPE, b"(U\x05f4,f4tR"), "'f4,f4', which are"),
    ],
)
def test_crafted_pickles_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises((pickle.UnpicklingError, TypeError, ValueError), match=message):
        read_pickle(kept(tmp_path, content))


def test_registered_extensions_are_refused_even_after_they_were_used(tmp_path: Path) -> None:
    code = 0xEF
    copyreg.add_extension("os", "system", code)
    content = opcodes(b"\x82" + bytes([code]))
    try:
        assert pickle.loads(content) is os.system  # the standard unpickler remembers it now
        with pytest.raises(pickle.UnpicklingError, match=f"extension {code}"):
            read_pickle(kept(tmp_path, content))
    finally:
        copyreg.remove_extension("os", "system", code)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x05\x96" + (2**36).to_bytes(8, "little") + b"x.",  # a bytearray
        b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"x.",  # bytes
        b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"}",  # a frame
        b"\x80\x02}r" + (2**32 - 1).to_bytes(4, "little"),  # a place in the memo
    ],
)
def test_a_file_takes_no_more_memory_than_it_has(content: bytes, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        read_pickle(kept(tmp_path, content))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024 * (1024 if sys.platform == "darwin" else 1)


def test_long_messages_are_cut_short(tmp_path: Path) -> None:
    nested: Any = ()
    for _ in range(20):
        nested = (nested, nested)  # 2 to the 20 pairs of brackets, written out
    stream = io.BytesIO()
    pickle.dump(nested, stream, 2)
    content = stream.getvalue()[:-1] + b"}b."
    with pytest.raises(pickle.UnpicklingError, match="sets the state") as error:
        read_pickle(kept(tmp_path, content))
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("protocol", range(6))
def test_a_cut_file_is_not_read(protocol: int, tmp_path: Path) -> None:
    content = pickle.dumps({"model": {"w": np.zeros(1000, np.float32)}}, protocol)
    for size in (1, 20, len(content) // 2, len(content) - 1):
        with pytest.raises(Exception):  # noqa: B017, PT011 - which one is up to the last bytes
            read_pickle(kept(tmp_path, content[:size]))
