"""Text files and YAML: what is read, and what is refused, in one sentence that names the file."""

import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck import texts
from limbeck.texts import check_yaml, load_yaml, read_bytes, read_text, read_yaml


def test_text_is_utf_8_with_or_without_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for content in ("größer\nb", "\ufeffgrößer\r\nb"):
        path.write_bytes(content.encode())
        assert read_text(path) == "größer\nb"


def test_other_bytes_are_told_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("größer".encode("latin1"))
    with pytest.raises(ValueError, match=r"a\.txt is no text in UTF-8: byte 2 is 0xf6\. .*"):
        read_text(path)
    path.write_bytes(b"a" * 101)
    with pytest.raises(ValueError, match=r"a\.txt has more than 100 bytes"):
        read_text(path, most=100)


def aliases(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


def merges(levels: int) -> str:
    lines = ["m0: &m0 {a: 1, b: 2}"]
    lines += [f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}]}}" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (aliases(30), r"holds more than 20,000 values, .* \(up to line 5\)\. Write out"),
        (merges(30), r"holds more than 20,000 values"),
        ("model: &a {student: *a}", r"contains itself: \*a in line 1 stands within &a"),
        ("a:\n- &b [1, [*b]]", r"contains itself: \*b in line 2"),
        ("a: " + "[" * 5000, r"has more than 100 levels of lists and mappings .* in line 1"),
        ("a: " + "{b: " * 5000, r"has more than 100 levels"),
        ("a:\n b: " + "9" * 5000, r"has a number of 5,000 characters in line 2"),
        ("a: " + ":".join(["59"] * 5000), r"has a number of 14,999 characters"),
        ("".join(f"k{i}: {i}\n" for i in range(30_000)), r"holds more than 20,000 values"),
        ("a" * (2**20 + 1), r"has 1,048,577 characters: expected at most 1,048,576"),
        ("a: [1", r"is no YAML of plain values: .*, in line 2\. Mend it\."),
        ("a: \0", r"is no YAML of plain values: .* not allowed"),
        ("a: *b", r"is no YAML of plain values: .*alias"),
        ("a: 2026-13-45", r"is no YAML of plain values: month must be"),
        ("a: !!timestamp soon", r"is no YAML of plain values: a value is not what its tag says"),
        ("a: !!int ''", r"is no YAML of plain values: a value is not what its tag says"),
        ("a: !!bool perhaps", r"is no YAML of plain values: a value is not what its tag says"),
        (f"a: !!int '{'1:' * 100_000}1'", r"has a number of 200,001 characters in line 1"),
        ("a: !!python/name:os.system ", r"is no YAML of plain values: .*constructor"),
    ],
)
def test_what_unfolds_or_is_no_yaml_is_refused_at_once(text: str, message: str) -> None:
    begin = time.process_time()
    with pytest.raises(ValueError, match=rf"^run/recipe\.yaml {message}"):
        load_yaml(text, "run/recipe.yaml", texts.SAFE_LOADER)
    assert time.process_time() - begin < 5


def test_anchors_have_their_uses(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\n")
    assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1}] * 2}


def test_every_recipe_is_within_bounds() -> None:
    recipes = sorted((Path(__file__).parents[1] / "recipes").rglob("*.yaml"))
    assert recipes
    for recipe in recipes:
        assert read_yaml(recipe) == yaml.safe_load(recipe.read_text())


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(PLAIN)
def test_plain_values_come_back(value: object) -> None:
    text = yaml.safe_dump([value, value])  # with aliases
    assert load_yaml(text, "a", texts.SAFE_LOADER) == [value, value]


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.text(alphabet="[]{}:,&*a<-? \n1'\"!|>", max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    try:
        check_yaml(text, "a")
        load_yaml(text, "a", texts.SAFE_LOADER)
    except ValueError as error:
        assert re.match("a (is|has|holds|contains) ", str(error))  # noqa: PT017 - or it is YAML


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: 1\ndata: 2\nmodel: 3", r"the key 'model' twice, in line 1 and in line 3"),
        ("a: {b: 1, c: [2], b: 3}", r"the key 'b' twice, in line 1 and in line 1"),
        ("? [1, 2]\n: x\nk: 1\nk: 2", r"the key 'k' twice, in line 3 and in line 4"),
    ],
)
def test_a_key_that_comes_twice_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^a has {message}; expected it once\. Leave one"):
        check_yaml(text, "a")


def test_the_same_key_elsewhere_or_as_a_value_is_none_that_comes_twice() -> None:
    check_yaml("a: a\nb: {a: b, b: [a, a, {a: 1}, {a: 2}]}\nc: {<<: {}, d: 1, <<: {}}", "a")


def test_text_of_which_the_rest_is_of_use_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\r\n\xf6b")
    assert read_text(path, strict=False) == "a\n\ufffdb"
    with pytest.raises(ValueError, match=r"a\.txt has more than 3 bytes"):
        read_text(path, 3, strict=False)
    with pytest.raises(ValueError, match=r"a\.txt has more than 3 bytes"):
        read_bytes(path, 3)
    assert read_bytes(path) == b"a\r\n\xf6b"
