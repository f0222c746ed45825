"""What a small file may not cost, and what a real one may."""

import contextlib
import io
import pickle
import struct
import time
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.checkpoints import read_file
from limbeck.checkpoints.reading.bounds import TooLargeError, check_archive, check_program
from limbeck.training.checkpoints import WholeCheckpoints

LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # how torch.save's old format begins
HEAD = LEGACY + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)

# Programs of some megabytes at most, which would take gigabytes, or years.
PROGRAMS = {
    "empty dicts": b"\x80\x02](" + b"}" * (4 << 20) + b"e.",
    "lists in the memo": b"\x80\x02](" + b"]q\x00" * (2 << 20) + b"e.",
    "ordered dicts": b"\x80\x02ccollections\nOrderedDict\nq\x000]("
    + b"h\x00)R" * (2 << 20)
    + b"e.",
    "marks": b"\x80\x02" + b"(" * (4 << 20) + b".",
    "a key of tuples of tuples": b"\x80\x02}K\x01" + b"q\x00h\x00\x86" * 60 + b"K\x01s.",
    "a key of deep tuples": b"\x80\x02}K\x01" + b"\x85" * 100_000 + b"K\x01s.",
    "one text, encoded again and again": b"\x80\x02c_codecs\nencode\nq\x000X"
    + struct.pack("<I", 1 << 20)
    + b"a" * (1 << 20)
    + b"q\x010X\x06\x00\x00\x00latin1q\x020]("
    + b"h\x00h\x01h\x02\x86R" * 20_000
    + b"e.",
}


def alone(program: bytes, folder: Path) -> Path:
    path = folder / "alone.pkl"
    path.write_bytes(program)
    return path


def in_legacy(program: bytes, folder: Path) -> Path:
    path = folder / "legacy.pth"
    path.write_bytes(HEAD + program + pickle.dumps([], 2))
    return path


def in_zip(program: bytes, folder: Path) -> Path:
    path = folder / "zip.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", b"3\n")
    return path


@pytest.mark.parametrize("write", [alone, in_legacy, in_zip], ids=lambda write: write.__name__)
@pytest.mark.parametrize("name", ["a key of tuples of tuples", "a key of deep tuples"])
def test_every_file_with_a_pickle_is_looked_through(write, name: str, tmp_path: Path) -> None:
    path = write(PROGRAMS[name], tmp_path)
    with pytest.raises(ValueError, match=r"cannot be read as weights: it has more"):
        read_file(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_that_grow_are_refused_in_time(name: str) -> None:
    begin = time.process_time()
    with pytest.raises(TooLargeError):
        check_program(PROGRAMS[name])
    assert time.process_time() - begin < 20


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.tuples(inner, inner, inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=15,
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(VALUES, st.integers(0, 5))
def test_a_program_ends_where_python_s_own_ends_it(value: object, protocol: int) -> None:
    content = pickle.dumps({"a": value, "set": {1, 2}, "frozen": frozenset([3])}, protocol)
    assert check_program(content + b"more") == len(content)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_break_it(content: bytes) -> None:
    with contextlib.suppress(pickle.UnpicklingError, EOFError):
        check_program(b"\x80\x04" + content)


def test_a_history_of_a_million_numbers_is_no_bomb() -> None:
    history = [float(i) for i in range(1_000_000)]
    content = pickle.dumps({"w": 1, "history": history}, 2)
    assert check_program(content) == len(content)


def test_a_large_array_counts_once(tmp_path: Path) -> None:
    content = pickle.dumps({"model": {"w": torch.zeros(1 << 22).numpy()}}, 2)
    assert check_program(content) == len(content)


def packed(folder: Path, method: int) -> Path:
    stream = io.BytesIO()
    torch.save({"w": torch.zeros(100, 100)}, stream)
    path = folder / "packed.pth"
    with zipfile.ZipFile(stream) as own, zipfile.ZipFile(path, "w", method) as archive:
        for name in own.namelist():
            archive.writestr(name, own.read(name))
    return path


def test_compressed_records_are_refused(tmp_path: Path) -> None:
    check_archive(packed(tmp_path, zipfile.ZIP_STORED))
    path = packed(tmp_path, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"packed\.pth cannot be read .* its record .* compressed"):
        read_file(path)


def test_records_that_claim_more_than_the_file_are_refused(tmp_path: Path) -> None:
    path = in_zip(pickle.dumps({"w": 1}, 2), tmp_path)
    size = len(pickle.dumps({"w": 1}, 2))
    claimed = struct.pack("<II", 0xFFFFFF00, 0xFFFFFF00)
    path.write_bytes(path.read_bytes().replace(struct.pack("<II", size, size), claimed))
    with pytest.raises(TooLargeError, match=r"of 4,294,967,040 bytes lies in another"):
        check_archive(path)


def with_two_directories(read_by_torch: bytes, read_by_python: bytes) -> bytes:
    """Two archives of in_zip in one: each program finds records, and not the same ones."""

    def split(archive: bytes) -> tuple[bytes, bytearray]:
        length, start = struct.unpack("<II", archive[-10:-2])
        return archive[:start], bytearray(archive[start : start + length])

    (first, directory), (second, other) = split(read_by_torch), split(read_by_python)
    place = 0
    while place < len(other):  # Python adds what lies between the directory and its stated place
        sizes = struct.unpack_from("<HHH", other, place + 28)
        offset = struct.unpack_from("<I", other, place + 42)[0] + len(first) - len(second)
        struct.pack_into("<I", other, place + 42, offset)
        place += 46 + sum(sizes)
    return first + directory + second + other + read_by_torch[-22:]


def test_an_archive_with_two_directories_is_refused(tmp_path: Path) -> None:
    bad, good = (
        in_zip(pickle.dumps({"w": text}, 2), tmp_path).read_bytes()
        for text in ("what torch reads", "another")
    )
    path = tmp_path / "two.pth"
    path.write_bytes(with_two_directories(bad, good))
    with zipfile.ZipFile(path) as archive:
        assert pickle.loads(archive.read("archive/data.pkl")) == {"w": "another"}
    assert torch.load(path, weights_only=True) == {"w": "what torch reads"}
    with pytest.raises(TooLargeError, match="directory of its records is not where its end says"):
        check_archive(path)


def test_an_archive_that_states_another_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept.pth"
    torch.save({"w": torch.zeros(3)}, path)
    check_archive(path)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\6\7") + 8] ^= 1  # where torch looks for the large numbers
    path.write_bytes(content)
    with pytest.raises(TooLargeError, match="directory of its records is not where its end says"):
        check_archive(path)


def test_a_comment_is_refused_unless_it_is_a_checkpoints_checksum(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"w": torch.zeros(3)}, path)
    check_archive(path)
    content = path.read_bytes()
    other = content[:-66] + struct.pack("<H", 22) + content[-88:-66]  # an end within the comment
    for changed in (content[:-1] + b"!", other):
        path.write_bytes(changed)
        with pytest.raises((TooLargeError, zipfile.BadZipFile)):
            check_archive(path)


def test_headers_of_safetensors_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    text = b'{"__metadata__": {' + b", ".join(b'"k%d": "v"' % i for i in range(400_000)) + b"}}"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(ValueError, match=r"its header has [\d,]+ bytes, where 4,194,304"):
        read_file(path)


def test_names_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "many.pth"
    one = torch.zeros(1)
    torch.save({f"w{i}": one for i in range(20_001)}, path)
    with pytest.raises(ValueError, match=r"many\.pth holds 20,001 names: expected at most 20,000"):
        read_file(path)


def test_a_very_long_name_is_not_taken_apart(tmp_path: Path) -> None:
    torch.save({"module." * 200_000 + "w": torch.zeros(1)}, tmp_path / "long.pth")
    with pytest.raises(ValueError, match=r"long\.pth: a tensor's name has 1,400,001 characters"):
        read_file(tmp_path / "long.pth")
