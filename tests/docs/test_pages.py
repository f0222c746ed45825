"""What the pages show works: their Python runs, their commands and recipes are taken.

The Python of a page runs block by block in one namespace, in an empty folder. In a page
``<!-- before: ... -->`` holds Python that runs before the block that follows, and may use
``monkeypatch``; ``<!-- not run: reason -->`` says why a block does not run.
"""

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from sphinx.config import Config
from sphinx.directives.code import LiteralIncludeReader

from limbeck.commands import VERBS, run
from limbeck.commands.parsing import known_keys
from limbeck.comparison.stated import KEYS

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "docs/extensions"))

from command_line import parser_of  # noqa: E402

PAGES = sorted(ROOT.glob("docs/**/*.md"))
FENCE = re.compile(
    r"<!-- before:\n(?P<before>.*?)-->"
    r"|<!-- not run: (?P<reason>[^>]+) -->\s+```python\n.*?```"
    r"|^(?P<indent> *)```(?P<language>[\w{}-]*)[^\n]*\n(?P<code>.*?)^ *```$",
    re.S | re.M,
)
GROUPS = {"data": ("inspect", "convert"), "recipes": ("list", "show", "copy", "schema")}


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """The blocks of a page in some languages, without their indentation."""
    for found in FENCE.finditer(page.read_text()):
        if found["language"] in languages and found["code"] is not None:
            yield re.sub(f"^{found['indent']}", "", found["code"], flags=re.M)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command of a page that begins with ``limbeck``."""
    indented = re.findall(r"(?:^    limbeck .*\n)+", page.read_text(), re.M)
    for block in [*blocks(page, "", "console", "bash", "shell"), *indented]:
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            if re.match(r"\s*(\$ )?limbeck [a-z]", line):
                yield shlex.split(line.strip().removeprefix("$ "), comments=True)[1:]


def of_files(page: Path) -> Iterator[tuple[Path, dict[str, str | int | None]]]:
    """The files of which a page shows lines, with the options that choose them."""
    found = r"^```\{literalinclude\} (\S+)\n((?::.*\n)*)"
    for path, lines in re.findall(found, page.read_text(), re.M):
        options = dict(re.findall(r"^:([\w-]+): *(.*)$", lines, re.M))
        options.pop("dedent", None)  # it moves what is found, and finds nothing
        yield page.parent / path, options


SHOWN = [(page, path, options) for page in PAGES for path, options in of_files(page)]


@pytest.mark.parametrize(
    ("page", "path", "options"),
    SHOWN,
    ids=[f"{page.stem}-{options.get('pyobject', path.name)}" for page, path, options in SHOWN],
)
def test_the_lines_that_a_page_shows_are_found_in_their_file(page, path, options):
    text, count = LiteralIncludeReader(str(path), options, Config()).read()
    assert count > 0
    assert text.strip()


def with_python(page: Path) -> bool:
    return "```python" in page.read_text()


@pytest.mark.parametrize("page", [*filter(with_python, PAGES)], ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_as_it_stands(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {"monkeypatch": monkeypatch}
    for found in FENCE.finditer(page.read_text()):
        code = found["before"] or (found["code"] if found["language"] == "python" else None)
        if code:
            line = page.read_text()[: found.start()].count("\n")
            exec(compile("\n" * (line + 1) + code, str(page), "exec"), scope)


@pytest.mark.parametrize("page", [*filter(lambda p: [*commands(p)], PAGES)], ids=str)
def test_the_commands_of_a_page_are_taken(page):
    for words in commands(page):
        verbs = [verb.name for verb in VERBS]
        assert words[0] in verbs, f"{page}: limbeck {' '.join(words)}"
        parts = 2 if words[0] in GROUPS else 1
        known = known_keys(parser_of(" ".join(words[:parts])))
        known |= {"resume"} if words[0] == "fit" else set()  # which reads all else from the run
        for word in words:
            option = word.partition("=")[0].removeprefix("--")
            if word.startswith("--"):
                outer = {".".join(option.split(".")[:n]) for n in range(1, option.count(".") + 2)}
                assert option.replace("-", "_") in known or outer & known, f"{page}: {word}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_line_of_a_page_is_lost_as_a_comment(page):
    prose = FENCE.sub("", page.read_text())
    assert re.findall(r"^\s*%.*", prose, re.M) == []  # MyST leaves such lines out


def recipes_of(page: Path) -> list[str]:
    """The blocks that are parts of recipes."""
    keys = {"model", "data", "trainer", "seed_everything"}
    loaded = [(block, yaml.safe_load(block)) for block in blocks(page, "yaml")]
    return [block for block, read in loaded if isinstance(read, dict) and read.keys() & keys]


@pytest.mark.parametrize("page", [*filter(recipes_of, PAGES)], ids=lambda page: page.stem)
def test_the_recipes_of_a_page_are_taken(page, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "tests/outside"))
    for number, block in enumerate(recipes_of(page)):
        part = tmp_path / f"{number}.yaml"
        part.write_text(block)
        base = str(ROOT / "recipes/shapes/student.yaml")
        with pytest.raises(SystemExit) as ended:
            run(["fit", "--config", base, "--config", str(part), "--print_config"])
        assert not ended.value.code, block


def test_the_reference_has_every_verb():
    page = (ROOT / "docs/reference/command-line.md").read_text()
    shown = re.findall(r"^```\{command-line\} (.+)$", page, re.M)
    names = [
        f"{verb.name} {word}".strip() for verb in VERBS for word in GROUPS.get(verb.name, ("",))
    ]
    assert sorted(shown) == sorted(names)


def test_the_messages_of_the_code_name_pages_of_the_site():
    site = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Documentation"]
    code = "".join(path.read_text() for path in ROOT.glob("src/limbeck/**/*.py"))
    named = re.findall(r"(https://[\w.]*readthedocs[\w./-]*?/)en/latest/([\w/-]+)\.html", code)
    assert len(named) >= 5
    for base, page in named:
        assert base == f"{site}/"
        assert (ROOT / "docs" / f"{page}.md") in PAGES
    assert "docs/" not in re.sub(r"https?://\S+", "", code)  # which an installed package lacks


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_comparisons_of_a_page_have_known_keys(page):
    for block in blocks(page, "yaml"):
        read = yaml.safe_load(block)
        if isinstance(read, dict) and "rows" in read:
            assert read.keys() <= set(KEYS)
