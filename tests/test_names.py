import re
import shlex
import unicodedata
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

import limbeck
from limbeck.names import LONGEST, escaped, file_names, folded, in_markdown, in_shell, in_terminal

# Characters that have a meaning somewhere, halves of escapes, and halves of surrogate pairs.
NASTY = st.text(
    st.sampled_from([*'%~0A2Faf/\\.:*con |"<>\n\r\t\0\x1b\x85\u2028\u202e\ufeff\ufffe\ud800éé']),
    max_size=8,
)
NAMES = st.one_of(NASTY, st.text(st.characters(exclude_categories=()), max_size=12))


@pytest.mark.parametrize(
    "name", ["traffic light", "sign [/red]", "100%", "50%-off", "a/b", "Größe", "猫", "👩‍🚒", "~"]
)
def test_names_that_need_nothing_stay_as_they_are(name: str) -> None:
    assert escaped(name) == in_terminal(name) == name
    if "/" not in name:
        assert file_names({0: f"{name}.txt"}) == {0: f"{name}.txt"}


@given(NAMES)
@example("%0A")
@example("%%0A")
@example("%~")
def test_an_escaped_name_is_one_plain_line_that_reads_back(name: str) -> None:
    line = escaped(name, " ,")
    assert unquote(line, errors="surrogatepass") == name
    assert not {" ", ","} & {*line}
    assert len(line.splitlines()) <= 1
    assert not {unicodedata.category(char) for char in line} & {"Cc", "Cs", "Zl", "Zp"}
    assert yaml.safe_load(f"# {line}\nkey: 1") == {"key": 1}


@given(st.lists(NAMES, unique=True, max_size=8))
@example(["Car", "car", "CAR", "\u00e9", "e\u0301", "con", "CON", "", "%", ".", ".."])
@example(["x" * 300, "x" * 301, "X" * 300, "é" * 200])
@example(["car", "Car", "car%~b4e9e2b5a5a021764772f584bd4bc60c"])
def test_file_names_are_within_their_folder_and_differ_on_every_disk(names: list[str]) -> None:
    files = file_names({name: name for name in names})
    assert list(files) == names
    assert len({folded(file) for file in files.values()}) == len(names)
    for name, file in files.items():
        assert 0 < len(file.encode()) <= LONGEST
        assert file not in (".", "..")
        assert not {*'/\\:*?"<>|\0\n'} & {*file}
        assert not file.endswith((".", " "))
        assert not re.match(r"(con|nul|prn|aux)(\.|$)", file, re.IGNORECASE)
        if name and "%~" not in file:
            assert unquote(file, errors="surrogatepass") == name


def test_files_of_devices_and_long_names_keep_their_suffix() -> None:
    found = file_names({"con": "con.txt", "x" * 300: f"{'x' * 300}.txt"})
    assert found["con"] == "%63on.txt"
    assert re.fullmatch(r"x+%~[0-9a-f]{32}\.txt", found["x" * 300])


def test_keys_tell_apart_files_that_want_one_name() -> None:
    found = file_names({("a_b", "c"): "a_b_c.png", ("a", "b_c"): "a_b_c.png"})
    assert found["a_b", "c"] == "a_b_c.png" != found["a", "b_c"]


def test_messages_keep_lines_and_lose_control_characters() -> None:
    assert in_terminal("a\n\tb\x1b[2J\r\u202e\ud800") == "a\n\tb\\x1b[2J\\r\\u202e\\ud800"


def test_a_cell_of_markdown_is_text() -> None:
    assert in_markdown("a|b\\ <i> *c* `d`\n[e](f) [g]") == (
        r"a\|b\\ \<i> \*c\* \`d\`%0A[e\](f) [g]"
    )


def test_nothing_prints_or_makes_tables_past_the_module_of_the_terminal() -> None:
    source = Path(limbeck.__file__).parent
    past = re.compile(r"get_console|from rich\.table|rich\.print|^\s*print\(", re.MULTILINE)
    found = [path.name for path in source.rglob("*.py") if past.search(path.read_text())]
    assert found == ["terminal.py"]


@pytest.mark.parametrize("word", ["runs/a", "my recipes/b.yaml", "it's", "a;b"])
def test_a_word_of_a_command_comes_back_from_a_shell(word: str) -> None:
    assert shlex.split(f"limbeck compare {in_shell(word)}") == ["limbeck", "compare", word]
