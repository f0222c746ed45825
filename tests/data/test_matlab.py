"""Files of MATLAB's, as scipy writes and reads them, and damaged ones."""

import contextlib
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from limbeck.data import matlab
from limbeck.data.matlab import read_matlab


def cells():
    """Cells in cells, of numbers of every type and of texts."""
    inner = np.empty((3, 1), object)
    inner[:, 0] = [np.arange(6, dtype=np.int16).reshape(2, 3), "a name", np.empty((0, 4))]
    outer = np.empty((2, 1), object)
    outer[:, 0] = [inner, np.array([[1.5, -2]])]
    return outer


TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")


@pytest.fixture(params=[True, False], ids=["compressed", "plain"])
def path(request, tmp_path):
    content = {kind: np.arange(12).reshape(3, 4).astype(kind) for kind in TYPES}
    content |= {"cells": cells(), "text": "Parade, größer", "cube": np.arange(24).reshape(2, 3, 4)}
    savemat(tmp_path / "kept.mat", content, do_compression=request.param)
    return tmp_path / "kept.mat"


def test_it_reads_what_scipy_does(path):
    ours, theirs = read_matlab(path), loadmat(path)
    for name in (*TYPES, "cube"):
        assert ours[name].tolist() == theirs[name].tolist(), name
        assert ours[name].shape == theirs[name].shape
    assert ours["text"] == theirs["text"].item()
    inner, numbers = ours["cells"][:, 0]
    assert numbers.tolist() == [[1.5, -2]]
    assert inner[0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert inner[1, 0] == "a name"
    assert inner[2, 0].size == 0


@pytest.mark.parametrize("compressed", [True, False])
def test_damage_is_a_value_error_or_none(tmp_path, compressed):
    savemat(tmp_path / "kept.mat", {"cells": cells()}, do_compression=compressed)
    whole = (tmp_path / "kept.mat").read_bytes()

    @settings(derandomize=True, max_examples=300, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=5),
        st.integers(0, len(whole)),
    )
    def damaged(changes, end):
        content = bytearray(whole)
        for place, value in changes:
            content[place] = value
        (tmp_path / "bad.mat").write_bytes(content[:end])
        with contextlib.suppress(ValueError):
            read_matlab(tmp_path / "bad.mat")

    damaged()


def test_what_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("limbeck.data.matlab._MOST_BYTES", 10_000)
    savemat(tmp_path / "zeros.mat", {"zeros": np.zeros((1000, 1000))}, do_compression=True)
    with pytest.raises(ValueError, match="unpacks to more than 10,000 bytes"):
        read_matlab(tmp_path / "zeros.mat")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": 1 + 2j}, "matrix of the class 6"),
        ({"x": {"field": 1}}, "matrix of the class 2"),
        ({"x": np.array(["two", "row"])}, "no row of text"),
    ],
)
def test_other_things_are_refused(tmp_path, content, message):
    savemat(tmp_path / "other.mat", content)
    with pytest.raises(ValueError, match=message):
        read_matlab(tmp_path / "other.mat")


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def compressed(data):
    packed = zlib.compress(data, 1)
    return struct.pack("<II", 15, len(packed)) + packed


def column(kind, count, data):
    """A matrix of that class, with ``count`` rows."""
    flags, shape = struct.pack("<II", kind, 0), struct.pack("<ii", count, 1)
    return element(14, element(6, flags) + element(5, shape) + element(1, b"a") + data)


def refusal(tmp_path, *variables):
    path = tmp_path / "bomb.mat"
    path.write_bytes(bytes(124) + b"\x00\x01IM" + b"".join(variables))
    with pytest.raises(ValueError, match=r"^it ") as error:
        read_matlab(path)
    return str(error.value)


def test_what_is_left_of_the_bound_may_be_nothing(tmp_path, monkeypatch):
    # The first variable uses up all of it, and zlib takes a bound of 0 for none.
    first, second = (column(9, n, element(2, bytes(n))) for n in (800, 4000))
    monkeypatch.setattr(matlab, "_MOST_BYTES", len(first))
    assert "unpacks to more" in refusal(tmp_path, compressed(first), compressed(second))


def test_cells_that_are_empty_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(matlab, "_MOST_MATRICES", 100)
    cells = column(1, 100, struct.pack("<II", 14, 0) * 100)  # which are in a matrix themselves
    assert "matrices and cells" in refusal(tmp_path, compressed(cells))
