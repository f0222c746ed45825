"""Which runs a comparison has, where they lie, and how the times of its rows are measured."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from limbeck.comparison import Comparison, Controls
from limbeck.comparison.cautions import unequal_steps
from limbeck.comparison.finished import Finished
from limbeck.comparison.job import Job
from limbeck.comparison.reporting import keep, kept
from limbeck.comparison.study import Study

RECIPE = {
    "model": {"student": {"class_path": "a"}},
    "data": {"val": {"class_path": "V"}},
    "trainer": {"max_epochs": 3},
}
KD = {"model": {"teacher": {"class_path": "t"}, "methods": {"kd": {}}}}


def study(tmp_path: Path, **more: Any) -> Study:
    stated = {"title": "t", "plain": (RECIPE,), "rows": {"KD": (KD,)}, "seeds": (0, 1), **more}
    return Study(Comparison(**stated), tmp_path / "out")


def jobs(of: Study) -> dict[str, Job]:
    return {job.title: job for job in of.jobs(of.rows())}


def finish(job: Job, cpu: float, steps: int = 10) -> None:
    """Leave what a finished run leaves of its times."""
    (job.folder / "student").mkdir(parents=True)
    (job.folder / "student/student.json").touch()
    summary = {"steps": steps, "device": "cpu", "training_seconds": {"wall": 1, "cpu": cpu}}
    job.summary_path.write_text(json.dumps(summary))


def test_a_run_states_its_seed_and_its_folder(tmp_path: Path) -> None:
    job = jobs(study(tmp_path))["KD, seed 1"]
    assert job.recipe is not None
    assert job.recipe["seed_everything"] == 1
    assert job.recipe["trainer"]["default_root_dir"] == str(job.folder)
    assert job.folder.parent == tmp_path / "out" / "runs"
    assert job.folder.name.startswith("kd_1_")


def test_the_times_are_measured_on_the_first_seed_and_kept(tmp_path: Path) -> None:
    runs = study(tmp_path)
    assert runs.time_ratios() == {}
    finish(jobs(runs)["plain, seed 0"], cpu=2.0)
    finish(jobs(runs)["KD, seed 0"], cpu=3.008)
    assert runs.time_ratios() == {"KD": 1.5}
    control = jobs(runs)["plain, time of KD, seed 0"]
    assert control.recipe is not None
    assert control.recipe["trainer"]["max_epochs"] == 5  # 3 * 1.5, rounded up
    finished = jobs(runs)["KD, seed 0"].summary_path
    finished.write_text(finished.read_text().replace("3.008", "4.0"))
    assert study(tmp_path).time_ratios() == {"KD": 1.5}, "as it was written down"


def test_a_stated_time_is_not_measured(tmp_path: Path) -> None:
    assert study(tmp_path, time_ratios={"KD": 2.0}).time_ratios() == {"KD": 2.0}


def test_rows_are_timed_where_a_control_waits_for_it(tmp_path: Path) -> None:
    measured = study(tmp_path)
    assert [row.name for row in measured.untimed(measured.rows())] == ["KD"]
    stated = study(tmp_path, time_ratios={"KD": 2.0})
    assert stated.untimed(stated.rows()) == []
    without = study(tmp_path, controls=Controls(equal_time=False))
    assert without.untimed(without.rows()) == []


def test_a_control_that_is_as_long_as_another_one_is_the_same_run(tmp_path: Path) -> None:
    runs = study(tmp_path, time_ratios={"KD": 2.0})
    equal, twice = (
        jobs(runs)[f"plain, {name}, seed 0"] for name in ("time of KD", "twice as long")
    )
    assert equal.folder == twice.folder, "also before one of them is trained"
    twice.folder.mkdir(parents=True)
    again = study(tmp_path, time_ratios={"KD": 2.0})
    assert jobs(again)["plain, time of KD, seed 0"].folder == twice.folder


def test_a_teacher_that_is_trained_first_teaches_all(tmp_path: Path) -> None:
    runs = study(tmp_path, teacher_recipe=(RECIPE, {"trainer": {"max_epochs": 9}}))
    training = runs.teacher_training
    assert training is not None
    assert training.title == "teacher, seed 0"
    taught = jobs(runs)["KD, seed 0"].recipe
    assert taught is not None
    folder = taught["model"]["teacher"]["init_args"]["folder"]
    assert folder == str(training.folder / "student")
    before = jobs(runs)["KD, seed 0"].folder
    (training.folder / "student").mkdir(parents=True)
    (training.folder / "student/student.json").write_text("{}")
    assert jobs(runs)["KD, seed 0"].folder == before, "it goes by the teacher's own identity"


def test_a_row_without_a_teacher_needs_none_scored(tmp_path: Path) -> None:
    assert study(tmp_path).teacher_scoring() is not None
    assert study(tmp_path, rows={"own": ({"model": {"methods": {}}},)}).teacher_scoring() is None


def test_teachers_of_features_are_not_scored_and_the_report_says_so(tmp_path: Path) -> None:
    teacher = {"class_path": "limbeck.models.FeatureTeacher", "init_args": {"network": "timm:a"}}
    row = {"model": {"teachers": {"dino": teacher}, "methods": {"kd": {}}}}
    runs = study(tmp_path, rows={"row": (row,)})
    assert runs.teacher_scoring() is None
    for name in ("plain", "row"):
        for seed in (0, 1):
            job = jobs(runs)[f"{name}, seed {seed}"]
            finish(job, cpu=1.0)
            job.predictions.parent.mkdir(parents=True)
            job.predictions.touch()
    said = [each for each in runs.finished(runs.rows()).cautions if "give features" in each]
    assert len(said) == 1
    both = study(tmp_path, rows={"row": (row,), "KD": (KD,)})
    scoring = both.teacher_scoring()
    assert scoring is not None
    assert scoring.scoring["model"]["teacher"] == {"class_path": "t"}


@pytest.mark.parametrize("key", ["model.student", "data.val"])
def test_a_plain_student_without_a_whole_recipe_is_refused(key: str, tmp_path: Path) -> None:
    """As where the plain recipe and what is laid over it are exchanged."""
    partial = {section: {} for section in RECIPE if section == key.partition(".")[0]}
    with pytest.raises(ValueError, match=f"plain states no {key}; expected the whole recipe"):
        study(tmp_path, plain=(RECIPE | partial,))


def test_without_a_finished_run_there_is_nothing_to_report(tmp_path: Path) -> None:
    runs = study(tmp_path)
    with pytest.raises(ValueError, match="no run of the plain student is finished"):
        runs.finished(runs.rows())


def test_what_was_predicted_on_other_images_is_not_taken_over(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "1.png").write_bytes(b"one")
    on_others = {"class_path": "V", "init_args": {"root": str(images)}}

    def states(**more: Any) -> set[str]:
        return {job.state for job in jobs(study(tmp_path, **more)).values()}

    for job in jobs(study(tmp_path)).values():
        finish(job, cpu=1.0)
        job.predictions.parent.mkdir(parents=True)
        job.predictions.touch()
    known = {"time_ratios": {"KD": 1.0}}  # or the run for equal time is missing
    assert states(**known) == {"finished"}
    assert states(scored_on=on_others, **known) == {"trained"}
    of_others = jobs(study(tmp_path, scored_on=on_others))["KD, seed 0"].predictions
    (images / "2.png").write_bytes(b"two")
    assert jobs(study(tmp_path, scored_on=on_others))["KD, seed 0"].predictions != of_others


def test_what_a_comparison_remembers_is_there_whole_or_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = study(tmp_path)
    keep(runs.comparison, runs.output)
    runs.digests.save()
    finish(jobs(runs)["plain, seed 0"], cpu=2.0)
    finish(jobs(runs)["KD, seed 0"], cpu=3.0)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    for write in (runs.time_ratios, runs.digests.save, lambda: keep(runs.comparison, runs.output)):
        with pytest.raises(KeyboardInterrupt):
            write()
    assert kept(runs.output).rows.keys() == {"KD"}
    monkeypatch.undo()
    assert study(tmp_path).time_ratios() == {"KD": 1.5}


def test_a_row_of_more_steps_has_a_control_of_equal_time_and_says_so(tmp_path: Path) -> None:
    runs = study(tmp_path)
    finish(jobs(runs)["plain, seed 0"], cpu=2.0, steps=10)
    finish(jobs(runs)["KD, seed 0"], cpu=6.0, steps=20)
    control = jobs(runs)["plain, time of KD, seed 0"].recipe
    assert control is not None
    assert control["trainer"]["max_epochs"] == 9, "the row took three times as long"
    rows = runs.rows()[:2]
    done = {row.name: [jobs(runs)[f"{row.name}, seed 0"]] for row in rows}
    (said,) = unequal_steps(Finished("t", rows, done, None, 0.005))
    assert said.startswith("KD is trained for 20 steps and the plain student for 10")
