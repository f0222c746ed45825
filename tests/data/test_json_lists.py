"""JSON read entry by entry against ``json.loads``, in pieces of a few bytes."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck.data import json_lists
from limbeck.data.json_lists import load_lists

PIECES = (5, 16, 2**20)
NUMBERS = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=12,
)
FIXTURES = [HealthCheck.function_scoped_fixture]


def load(path: Path, content: bytes, unread: str | None = None) -> Any:
    """What is read, with lists of the keys a and b gathered as they would have been anyway."""
    path.write_bytes(content)
    return load_lists(path, {"a": list, "b": list}, unread)


@pytest.mark.parametrize("piece", PIECES)
@settings(max_examples=100, derandomize=True, suppress_health_check=FIXTURES)
@given(value=VALUES, indent=st.sampled_from([None, 2]), ascii_only=st.booleans())
def test_it_is_what_json_reads(
    tmp_path: Path, piece: int, value: Any, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "_PIECE", piece)
        assert load(tmp_path / "a.json", text.encode()) == value


@pytest.mark.parametrize("piece", PIECES)
@settings(max_examples=200, derandomize=True, suppress_health_check=FIXTURES)
@given(
    value=st.dictionaries(st.sampled_from("ab"), VALUES),
    cut=st.floats(0, 1),
    put=st.text("]}{[,:\n1", max_size=2),
)
def test_what_is_no_json_is_told_in_the_words_of_json(
    tmp_path: Path, piece: int, value: Any, cut: float, put: str
) -> None:
    text = json.dumps(value, indent=1)
    at = int(cut * len(text))
    content = (text[:at] + put + text[at + len(put) :]).encode()
    try:
        right = json.loads(content)
    except ValueError as error:
        expected = str(error).partition(":")[2]  # the place, as versions of Python differ in words
    else:
        expected = ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "_PIECE", piece)
        if not expected:
            assert load(tmp_path / "a.json", content) == right
            return
        with pytest.raises(ValueError, match="line ") as caught:
            load(tmp_path / "a.json", content, "b")
    assert str(caught.value).partition(":")[2] == expected


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"]
)
def test_encodings_are_told_by_the_first_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, encoding: str
) -> None:
    monkeypatch.setattr(json_lists, "_PIECE", piece)
    value = {"a": ["ä", "\U0001f600"], "c": [["é"]]}
    content = json.dumps(value, ensure_ascii=False).encode(encoding)
    assert load(tmp_path / "a.json", content) == value


def test_a_byte_that_is_no_utf8_is_told_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lists, "_PIECE", 5)
    content = b'{"a": ["\xc3\xa4", "' + "ä".encode("latin-1") + b'"]}'
    with pytest.raises(UnicodeDecodeError) as expected:
        json.loads(content)
    with pytest.raises(ValueError, match="can't decode") as caught:
        load(tmp_path / "a.json", content)
    assert str(caught.value) == str(expected.value)


def test_of_a_key_that_comes_twice_the_last_counts(tmp_path: Path) -> None:
    assert load(tmp_path / "a.json", b'{"a": [1, 2], "b": 3, "a": [], "b": [4]}') == {
        "a": [],
        "b": [4],
    }


def test_entries_that_are_not_asked_for_have_to_be_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, 2, 3], "b": [7]}')
    assert load_lists(path, {"a": next}) == {"a": 1, "b": [7]}
    path.write_text('{"a": [1, 2, ], "b": [7]}')
    with pytest.raises(ValueError, match=r"line 1 column 14 \(char 13\)"):
        load_lists(path, {"a": next})


@pytest.mark.parametrize("space", ["", " ", "\n\t"])
def test_lists_that_are_unread_are_none(tmp_path: Path, space: str) -> None:
    lists = "[[1,-0.5,2e3],[0,10,1E-7]]".replace(",", f"{space},{space}")
    text = f'{{"a": [{{"unread"{space}:{space}{lists}, "read": {lists}}}]}}'
    found = load(tmp_path / "a.json", text.encode(), "unread")
    assert found == {"a": [{"unread": None, "read": [[1, -0.5, 2000], [0, 10, 1e-7]]}]}


@pytest.mark.parametrize("value", ["[]", "[[]]", "[1, 2]", "[[1], null]", '{"counts": [1]}', "3"])
def test_other_values_of_the_unread_key_are_read(tmp_path: Path, value: str) -> None:
    found = load(tmp_path / "a.json", f'{{"a": [{{"unread": {value}}}]}}'.encode(), "unread")
    assert found == {"a": [{"unread": json.loads(value)}]}


@pytest.mark.parametrize(
    "lists", ["[[1,,2]]", "[[1,2,]]", "[[01]]", "[[1.]]", "[[.5]]", "[[1 2]]", "[[1]", "[[+1]]"]
)
def test_what_is_unread_has_to_be_json(tmp_path: Path, lists: str) -> None:
    text = f'{{\n"a": [{{"unread": [[1, 2]]}},\n{{"unread": {lists}}}]\n}}'
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(text)
    with pytest.raises(ValueError, match="line 3") as caught:
        load(tmp_path / "a.json", text.encode(), "unread")
    assert str(caught.value).partition(":")[2] == str(expected.value).partition(":")[2]


def test_python_s_limit_of_digits_holds_for_what_is_unread(tmp_path: Path) -> None:
    text = f'{{"a": [{{"unread": [[{"9" * 5000}]]}}]}}'
    with pytest.raises(ValueError, match="limit"):
        load(tmp_path / "a.json", text.encode(), "unread")


def test_one_entry_at_a_time_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lists, "_PIECE", 1024)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": [{"id": number, "more": [1.5]} for number in range(20_000)]}))
    tracemalloc.start()
    try:
        assert load_lists(path, {"a": lambda entries: sum(1 for _ in entries)}) == {"a": 20_000}
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 4
    finally:
        tracemalloc.stop()
