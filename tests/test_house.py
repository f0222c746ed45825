"""The tests mirror the house: every module has a test of its name, or CONTRIBUTING says where."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE, TESTS = ROOT / "src" / "limbeck", ROOT / "tests"


def modules() -> list[Path]:
    found = (path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))
    return sorted(path for path in found if not path.name.startswith("__"))


def elsewhere() -> dict[str, list[str]]:
    """The rows ``| `module.py` | `tests/test_file.py` |`` of CONTRIBUTING."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.partition("## Modules that are tested elsewhere")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) \| (`.+?`) \|$", section, re.MULTILINE)
    return {
        module: re.findall("`(.+?)`", tests)
        for names, tests in rows
        for module in re.findall("`(.+?)`", names)
    }


def own_tests(module: Path) -> list[Path]:
    """``test_name.py``, or several that begin so."""
    folder = TESTS / module.parent
    return [*folder.glob(f"test_{module.stem}.py"), *folder.glob(f"test_{module.stem}_*.py")]


def test_every_module_has_a_test_file_of_its_name_or_is_named_with_where_it_is_tested() -> None:
    without = [path.as_posix() for path in modules() if not own_tests(path)]
    assert without == sorted(elsewhere())


def test_what_contributing_names_is_there() -> None:
    for module, tests in elsewhere().items():
        assert tests, module
        for name in tests:
            assert (ROOT / name).exists(), f"{module} is said to be tested in {name}"
