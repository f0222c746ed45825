"""``limbeck compare`` and ``limbeck report``, end to end, on networks that train in a second."""

import json
import os
import shlex
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from limbeck.cli import main
from limbeck.commands import compare as compare_command
from limbeck.commands.compare import usual_output
from limbeck.comparison import comparing, running
from tests.commands import tiny_recipes
from tests.commands.conftest import Runs
from tests.commands.processes import start

OUTPUT = Path("runs/mine")
CONTROLS = ("equal_time", "transfer", "twice_as_long")


@pytest.fixture(autouse=True)
def started_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "start", start)


def write(runs: Runs, **more: Any) -> Path:
    """A comparison of FitNet and a transfer with the plain student, two seeds, short runs."""
    stated = {
        "plain": tiny_recipes.plain(max_epochs=1),
        "rows": {"FitNet": tiny_recipes.taught(runs.teacher / "student")},
        "seeds": [0, 1],
        "scored_on": tiny_recipes.shapes(12, 5),
        "time_ratios": {"FitNet": 1.6},
    }
    path = Path("mine.yaml")
    path.write_text(yaml.safe_dump({**stated, **more}))
    return path


def found(folder: Path = OUTPUT) -> dict[str, Any]:
    """The report, without what another run would measure anew."""
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    del report["measured"]
    return report


def states(output: str) -> dict[str, str]:
    """The state of each run of a dry run's table."""
    rows = [line.split("│") for line in output.splitlines() if line.startswith("│")]
    return {row[1].strip(): row[2].strip() for row in rows}


@pytest.mark.slow
def test_a_comparison_from_its_file_to_its_report(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(runs)
    tiny_recipes.limbeck("compare", path, "--dry-run")
    assert states(capsys.readouterr().out) == dict.fromkeys(
        [
            f"{row}, seed {seed}"
            for seed in (0, 1)
            for row in (
                "plain",
                "FitNet",
                "plain, twice as long",
                "transfer alone",
                "transfer alone, time of FitNet",
            )
        ],
        "missing",
    )
    tiny_recipes.limbeck("compare", path, "--weak_teacher")
    said = capsys.readouterr().out
    assert "There are 2 seeds" in said
    report = found()["findings"]
    assert [row["name"] for row in report["rows"]][:3] == ["teacher", "plain", "FitNet"]
    steps = {row["name"]: [run["steps"] for run in row["runs"]] for row in report["rows"]}
    assert steps["plain"] == steps["FitNet"] == steps["transfer alone"] == [4, 4]
    # One epoch times 1.6 is two whole ones.
    assert steps["plain, time of FitNet"] == steps["plain, twice as long"] == [8, 8]
    contrasts = {(each["row"], each["control"]): each for each in report["contrasts"]}
    assert set(contrasts) == {
        ("FitNet", control)
        for control in (
            "plain",
            "transfer alone",
            "plain, time of FitNet",
            "transfer alone, time of FitNet",
        )
    }
    against_plain = contrasts["FitNet", "plain"]
    scores = {row["name"]: [run["scores"]["AP"] for run in row["runs"]] for row in report["rows"]}
    gains = [one - other for one, other in zip(scores["FitNet"], scores["plain"], strict=True)]
    assert list(against_plain["by_seed"].values()) == pytest.approx(gains, abs=1e-6)
    # Runs of one recipe are one run: a control that is as long as another one is not trained again.
    assert len(list((OUTPUT / "runs").glob("*_0_*"))) == 5
    for name in ("report.html", "report.md"):
        assert "FitNet" in (OUTPUT / name).read_text()
    # The command that the report gives for a row trains it again, and not into the finished run.
    command = shlex.split(next(row["command"] for row in report["rows"] if row["name"] == "plain"))
    tiny_recipes.limbeck(*command[1:], "--trainer.max_steps", "1")
    assert Path(command[-1], "student").is_dir()

    written = {p: p.stat().st_mtime_ns for p in (OUTPUT / "runs").rglob("*.safetensors")}
    before = found()
    tiny_recipes.limbeck("compare", path, "--weak_teacher")
    assert {p: p.stat().st_mtime_ns for p in written} == written, "what is finished is taken over"
    assert found() == before
    tiny_recipes.limbeck("report", OUTPUT, "--output", "again")
    assert found(Path("again"))["findings"]["contrasts"] == before["findings"]["contrasts"]

    changed = tiny_recipes.plain(max_epochs=1)
    changed["model"]["optimizer"] = {"lr": 1.0e-3}
    capsys.readouterr()
    tiny_recipes.limbeck("compare", write(runs, plain=changed), "--dry-run")
    assert set(states(capsys.readouterr().out).values()) == {"missing"}


@pytest.mark.slow
def test_a_killed_comparison_ends_with_the_same_report(runs: Runs, tmp_path: Path) -> None:
    controls = {"transfer": False, "twice_as_long": False}
    folders = [tmp_path / name for name in ("whole", "killed")]
    reports = []
    for folder in folders:
        folder.mkdir()
        os.chdir(folder)
        words = ("compare", str(write(runs, controls=controls, seeds=[0])), "--weak_teacher")
        if folder.name == "killed":
            for ended in (1, 2, 3):  # models that are scored
                process = start(words, folder / "log", {}).process
                while process.is_alive() and _scored() < ended:
                    time.sleep(0.01)
                os.kill(process.pid or 0, signal.SIGKILL)
                process.join()
        tiny_recipes.limbeck(*words)
        reports.append((OUTPUT / "report.json").read_text().partition('"measured"')[0])
    assert reports[0] == reports[1]


def _scored() -> int:
    return len(list((OUTPUT / "runs").glob("*/predictions/**/*.safetensors")))


@pytest.mark.slow
def test_a_weak_teacher_stops_the_comparison_before_anything_is_distilled(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    untrained = tiny_recipes.detector()
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("compare", write(runs, teacher=untrained, seeds=[0]))
    assert not list((OUTPUT / "runs").glob("fitnet*"))


@pytest.mark.slow
def test_a_run_that_fails_is_named_with_what_it_said(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tiny_recipes.plain(max_epochs=1)
    plain["model"]["optimizer"]["lr_factors"] = {"no.such.part": 0.1}
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("compare", write(runs, plain=plain, seeds=[0]), "--weak_teacher")
    said = capsys.readouterr().err
    assert "plain, seed 0 has failed (exit 1)" in said
    assert "What was trained is kept" in said


@pytest.mark.slow
def test_a_report_of_runs_that_fit_has_left(copied: Runs) -> None:
    tiny_recipes.limbeck("report", copied.teacher, copied.taught, "--output", "report")
    report = found(Path("report"))["findings"]
    assert {row["name"]: row["kind"] for row in report["rows"]} == {
        "teacher": "teacher",
        "plain": "plain",
        "taught": "distilled",
    }


@pytest.mark.slow
def test_runs_in_folders_of_one_name_are_two_rows(copied: Runs) -> None:
    theirs = Path("theirs", copied.teacher.name)
    shutil.copytree(copied.teacher, theirs)
    recipe = theirs / "config.yaml"
    changed = yaml.safe_load(recipe.read_text())
    changed["trainer"]["gradient_clip_val"] = 5.0
    recipe.write_text(yaml.safe_dump(changed))
    tiny_recipes.limbeck("report", copied.teacher, theirs, "--output", "report")
    rows = found(Path("report"))["findings"]["rows"]
    assert [row["name"] for row in rows] == [str(copied.teacher.resolve()), str(theirs.resolve())]


def test_runs_of_one_recipe_and_seed_are_refused(
    copied: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(copied.teacher, "again")
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("report", copied.teacher, "again")
    assert "are runs of one recipe, and 2 of them have the seed 0" in capsys.readouterr().err


def test_a_comparison_among_runs_is_refused(
    copied: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("compared").mkdir()
    Path("compared/comparison.json").touch()
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("report", "compared", copied.teacher)
    assert "compared is a comparison, which has a report of its own" in capsys.readouterr().err


def test_comparisons_of_one_name_have_folders_of_their_own() -> None:
    assert usual_output(Path("cats/comparison.yaml")) == Path("runs/cats/comparison")
    assert usual_output(Path("dogs/comparison.yaml")) == Path("runs/dogs/comparison")
    assert usual_output(Path("comparisons/shapes.yaml")) == Path("runs/shapes")


def test_runs_that_are_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path)])
    assert "holds neither a comparison nor a finished run" in capsys.readouterr().err


def test_a_bad_recipe_is_refused_before_anything_is_trained(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tiny_recipes.plain(max_epohcs=1)
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("compare", write(runs, plain=plain))
    assert "max_epohcs" in capsys.readouterr().err
    assert not (OUTPUT / "runs").exists()


def test_images_of_other_classes_are_refused_before_anything_is_trained(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    others = tiny_recipes.shapes(12, 5, "classification")
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("compare", write(runs, scored_on=others))
    said = " ".join(capsys.readouterr().err.split())
    assert "the plain student's data.val is for detection, and scored_on for classific" in said
    assert not (OUTPUT / "runs").exists()


def test_a_row_that_names_no_teacher_is_refused_before_anything_is_trained(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    untaught = tiny_recipes.taught(runs.teacher / "student")
    teacher = untaught["model"].pop("teacher")
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("compare", write(runs, rows={"FitNet": untaught}, teacher=teacher))
    said = capsys.readouterr().err
    assert "rows.FitNet names no model.teacher: the comparison's `teacher` takes the place" in said
    assert "State model.teacher in it, any one." in said
    assert "needs a teacher, and there is none" in said
    assert not (OUTPUT / "runs").exists()


def test_a_row_without_an_end_is_refused_before_anything_is_trained(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    endless, controls = tiny_recipes.plain(max_epochs=-1), dict.fromkeys(CONTROLS, False)
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("compare", write(runs, plain=endless, controls=controls))
    assert "trainer.max_epochs is -1 and trainer.max_steps -1" in capsys.readouterr().err


def test_the_plan_is_for_as_many_runs_at_once_as_there_will_be(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comparing.torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(compare_command, "step_seconds", lambda *_: {"plain": 3600.0})
    tiny_recipes.limbeck("compare", write(runs), "--dry-run")
    # 2 seeds of 4 steps, an hour each, on 4 devices
    assert "2 h 00 min of training with --jobs 4" in " ".join(capsys.readouterr().out.split())
