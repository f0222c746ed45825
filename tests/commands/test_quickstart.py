import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch.utilities.exceptions import SIGTERMException

from limbeck.commands import quickstart as verb
from limbeck.commands import recipes
from limbeck.commands.compare import file_of
from limbeck.comparison import Comparison, Controls, read_comparison, running
from limbeck.comparison.reporting import keep
from tests.commands import tiny_recipes
from tests.commands.processes import start


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quickstart's own recipes and comparison, with fewer and smaller images."""
    comparison = yaml.safe_load(file_of(Path(verb.NAME)).read_text())
    comparison["scored_on"]["init_args"] |= {"count": 6, "size": 64}
    tiny_recipes.write(Path("own/comparisons"), verb.NAME, comparison)
    for name in ("teacher", "student", "distilled"):
        recipe = yaml.safe_load(recipes.find(f"shapes/{name}").read_text())
        if name != "distilled":
            recipe["data"] |= {"batch_size": 2, "eval_batch_size": 4, "workers": 0}
            recipe["data"]["train"]["init_args"] |= {"count": 8, "size": 64}
            recipe["data"]["val"]["init_args"] |= {"count": 4, "size": 64}
            recipe["trainer"] |= tiny_recipes.TRAINER | {"log_every_n_steps": 1}
        tiny_recipes.write(Path("own/recipes/shapes"), name, recipe)
    own = Path("own/recipes").resolve()
    monkeypatch.setattr(recipes, "folder", lambda: own)
    monkeypatch.setattr("limbeck.commands.compare.folder", lambda: own)
    monkeypatch.setattr(running, "start", start)


def shapes(seed: int = 0) -> Comparison:
    recipe = {"model": {"student": {}}, "trainer": {"max_epochs": 1}}
    return Comparison(title="t", plain=(recipe,), rows={"KD": ({},)}, seeds=[seed])


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_quickstart_is_a_comparison_that_ends_in_a_report(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    tiny_recipes.limbeck("quickstart", "--output", "out")
    said = capsys.readouterr().out
    assert "Written to out: report.html, report.md, report.json" in said
    assert "limbeck compare shapes --output out" in said
    rows: dict[str, Any] = {
        row["name"]: row["runs"][0]
        for row in json.loads(Path("out/report.json").read_text())["findings"]["rows"]
    }
    assert set(rows) == {
        "teacher",
        "plain",
        "FitNet + head",
        "plain, twice as long",
        "transfer alone",
        "plain, time of FitNet + head",
        "transfer alone, time of FitNet + head",
    }
    assert all(name in said for name in ("teacher", "FitNet + head", "INCONCLUSIVE"))
    steps = {name: run["steps"] for name, run in rows.items()}
    assert steps["plain"] == steps["FitNet + head"] == steps["transfer alone"] == 4
    assert steps["plain, twice as long"] == 8
    # The distilled student learnt from the teacher that was trained here.
    (teacher,) = Path("out/runs").glob("teacher_0_*")
    (taught,) = Path("out/runs").glob("fitnet_head_0_*")
    config = yaml.safe_load((taught / "config.yaml").read_text())
    assert config["model"]["teacher"]["init_args"]["folder"] == str(teacher / "student")

    runs = set(Path("out/runs").iterdir())
    tiny_recipes.limbeck("quickstart", "--output", "out")  # takes over what is there
    assert set(Path("out/runs").iterdir()) == runs
    assert not list(Path().glob("out-*"))


def test_the_quickstarts_comparison_has_every_control() -> None:
    comparison = read_comparison(file_of(Path(verb.NAME)), recipes.find)
    assert comparison.seeds[0] == 0  # so that its runs are taken over
    assert comparison.teacher_recipe is not None
    assert comparison.controls == Controls()


def test_the_same_comparison_goes_on_where_it_is() -> None:
    verb.make_room(Path("out"), shapes())  # there is nothing to move
    keep(shapes(), Path("out"))
    Path("out/runs").mkdir()
    verb.make_room(Path("out"), shapes())
    assert Path("out/runs").is_dir()
    assert list(Path().iterdir()) == [Path("out")]


def test_another_comparison_is_moved_aside(caplog: pytest.LogCaptureFixture) -> None:
    keep(shapes(seed=1), Path("out"))
    Path("out/report.html").write_text("earlier")
    with caplog.at_level(logging.INFO):
        verb.make_room(Path("out"), shapes(seed=2))
    assert not Path("out").exists()
    (aside,) = Path().glob("out-*")
    assert (aside / "report.html").read_text() == "earlier"
    assert aside.name in caplog.text


def test_a_folder_of_anything_else_stays_where_it_is() -> None:
    Path("photographs").mkdir()
    Path("photographs/a.jpg").touch()
    for output in (Path("photographs"), Path()):
        with pytest.raises(FileExistsError, match=r"which no comparison has written"):
            verb.make_room(output, shapes())
    assert Path("photographs/a.jpg").exists()


@pytest.mark.usefixtures("small")
def test_a_quickstart_that_is_asked_to_end_says_how_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(*_: object, **__: object) -> None:
        raise SIGTERMException

    monkeypatch.setattr(verb, "compare", asked)
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("quickstart", "--output", "out")
    assert end.value.code == 143
    assert "WARNING Ended by SIGTERM: the same command goes on" in capsys.readouterr().err


@pytest.mark.usefixtures("small")
def test_a_run_that_fails_ends_the_quickstart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(words: object, log_path: Path, _: object) -> object:
        log_path.write_text("No space left on device")
        return start(["fit", "--config", "none.yaml"], log_path, {})

    monkeypatch.setattr(running, "start", fails)
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("quickstart", "--output", "out")
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "teacher, seed 0 has failed" in said
    assert "No space left on device" in said
