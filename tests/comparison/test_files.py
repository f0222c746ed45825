"""The comparisons that limbeck ships: each can be planned, with all its runs and controls."""

from pathlib import Path

import pytest

from limbeck.commands.compare import file_of
from limbeck.commands.recipes import find
from limbeck.comparison import read_comparison
from limbeck.comparison.identity import Digests
from tests.commands import tiny_recipes

FOLDER = Path(__file__).parents[2] / "comparisons"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_comparison_begins_with_how_it_is_run_and_what_it_is(name: str) -> None:
    how, what = (FOLDER / f"{name}.yaml").read_text().splitlines()[:2]
    assert how in (f"# limbeck compare comparisons/{name}.yaml", f"# limbeck compare {name}")
    assert what.startswith("# ")


def test_a_comparison_goes_by_its_name_unless_there_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert file_of(Path("shapes")).samefile(FOLDER / "shapes.yaml")
    mine = tmp_path / "shapes"
    mine.touch()
    assert file_of(mine) == mine
    monkeypatch.chdir(tmp_path)
    assert file_of(Path("shapes")) == Path("shapes")


def test_images_that_chose_nothing_are_no_images_of_the_recipes() -> None:
    for name in NAMES:
        comparison = read_comparison(FOLDER / f"{name}.yaml", find)
        recipes = [*comparison.plain, *(comparison.teacher_recipe or ())]
        stated = [recipe["data"] for recipe in recipes if "data" in recipe]
        assert stated
        chosen = [data[part] for data in stated for part in ("train", "val") if part in data]
        assert len(chosen) >= 2
        assert comparison.scored_on not in chosen


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_comparison_can_be_planned(
    name: str,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "shared").symlink_to(shared)
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    monkeypatch.setattr(Digests, "of", lambda _, path: str(path))  # contents are not looked at
    monkeypatch.setattr("limbeck.commands.compare.step_seconds", lambda *_: {})  # nothing is timed
    tiny_recipes.limbeck("compare", FOLDER / f"{name}.yaml", "--dry-run")
    comparison = read_comparison(FOLDER / f"{name}.yaml", find)
    # The plain student, twice as long too unless it is switched off, and the rows.
    runs = len(comparison.seeds) * (1 + comparison.controls.twice_as_long + len(comparison.rows))
    assert capsys.readouterr().out.count("missing") >= runs
