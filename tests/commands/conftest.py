"""Two runs that the tests of several verbs look at: a teacher, and a student that it taught."""

import shutil
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import pytest
import rich
from rich.console import Console

from tests.commands import tiny_recipes


@dataclass(frozen=True)
class Runs:
    """Folders, in one that the command line ran in."""

    root: Path

    @property
    def teacher(self) -> Path:
        return self.root / "runs" / "tiny" / "plain"

    @property
    def taught(self) -> Path:
        return self.root / "runs" / "tiny" / "taught"

    def recipe(self, name: str) -> Path:
        return self.root / "tiny" / f"{name}.yaml"

    @property
    def pair(self) -> tuple[str, ...]:
        """Words that name both recipes."""
        return "--config", str(self.recipe("plain")), "--config", str(self.recipe("taught"))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A plain teacher of 8 steps, and a student that it taught for 24."""
    made = Runs(tmp_path_factory.mktemp("runs"))
    tiny_recipes.write(made.root / "tiny", "plain", tiny_recipes.plain())
    tiny_recipes.write(made.root / "tiny", "taught", tiny_recipes.taught(made.teacher / "student"))
    with chdir(made.root):
        tiny_recipes.limbeck("fit", "--config", made.recipe("plain"))
        tiny_recipes.limbeck("fit", *made.pair, "--trainer.max_epochs", 6)
    return made


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in an empty folder, before a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(rich, "_console", Console(width=200))


@pytest.fixture
def copied(runs: Runs, tmp_path: Path) -> Runs:
    """The two runs, in folders that a test may change."""
    shutil.copytree(runs.root, tmp_path / "copied")
    return Runs(tmp_path / "copied")
