"""What is installed: the files of the wheel, and that it asks for all that it imports."""

import ast
import re
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

import limbeck

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOR_DEVELOPMENT = {"benchmarks", "docs", "dev"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in the wheel."""
    builder = pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(ROOT))
    (built,) = builder.build(directory=str(tmp_path_factory.mktemp("dist")))
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


def test_the_wheel_has_all_modules_and_the_recipes_and_comparisons(wheel: set[str]) -> None:
    sources = (path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*.py"))
    expected = {path.as_posix() for path in sources} | {"limbeck/py.typed"}
    for folder in ("recipes", "comparisons"):
        files = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.yaml"))
        expected |= {f"limbeck/{path.as_posix()}" for path in files}
    assert expected <= wheel


def test_the_wheel_has_nothing_else_but_data_of_modules(wheel: set[str]) -> None:
    info = f"limbeck-{limbeck.__version__}.dist-info/"
    assert {name.partition("/")[0] for name in wheel} == {"limbeck", info.rstrip("/")}
    assert f"{info}licenses/LICENSE" in wheel


def distributions(requirements: list[str]) -> set[str]:
    """The normalised names of the packages that are required."""
    names = (re.match(r"[\w.-]+", requirement) for requirement in requirements)
    return {re.sub("[-_.]+", "-", name[0]).lower() for name in names if name}


def imported() -> dict[str, set[str]]:
    """The packages of others that limbeck's modules import, each with the modules that do."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            for name in names:
                found.setdefault(name.partition(".")[0], set()).add(path.name)
    return {n: at for n, at in found.items() if n not in {*sys.stdlib_module_names, "limbeck"}}


def test_whatever_is_imported_is_a_dependency_or_of_an_extra_for_users() -> None:
    extras = PROJECT["optional-dependencies"]
    asked = distributions(PROJECT["dependencies"])
    asked |= {n for e in extras.keys() - FOR_DEVELOPMENT for n in distributions(extras[e])}
    brought = packages_distributions()
    for name, modules in imported().items():
        homes = {re.sub("[-_.]+", "-", home).lower() for home in brought.get(name, [name])}
        assert homes & asked, f"{name}, imported by {modules}, is of {homes}"


def test_versions_and_addresses_are_said_once() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == citation["version"] == limbeck.__version__
    assert PROJECT["license"] == citation["license"]
    assert PROJECT["urls"]["Repository"] == citation["repository-code"]
    assert PROJECT["urls"]["Documentation"] == citation["url"]


def test_the_oldest_versions_are_those_that_are_asked_for() -> None:
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *extras["onnx"], *extras["video"]]
    oldest = [re.sub(r"\[.*?\]|,.*", "", requirement).replace(">=", "==") for requirement in asked]
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    assert sorted(line for line in lines if not line.startswith("#")) == sorted(oldest)
