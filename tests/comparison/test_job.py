"""How far a run of a comparison is, as its folder tells, and what it is scored with."""

import json
from pathlib import Path

import pytest

from limbeck.comparison.job import Job, scoring_of, slug, student_in

PLAIN = {
    "model": {"student": {"class_path": "a"}, "metric": "voc", "optimizer": {"lr": 1}},
    "data": {"train": {"class_path": "T"}, "val": {"class_path": "V"}, "workers": 1},
    "trainer": {"max_epochs": 3, "accelerator": "cpu"},
}


def job(folder: Path) -> Job:
    return Job("KD", 3, {"trainer": {}}, folder, {})


def test_the_folder_tells_how_far_a_run_is(tmp_path: Path) -> None:
    run = job(tmp_path)
    assert (run.title, run.state) == ("KD, seed 3", "missing")
    (tmp_path / "config.yaml").touch()
    assert run.state == "begun"
    (tmp_path / "student").mkdir()
    (tmp_path / "student/student.json").touch()
    assert run.state == "begun", "its summary is written last"
    summary = {"steps": 4, "device": "cpu", "training_seconds": {"wall": 9.0, "cpu": 2.0}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert run.state == "trained"
    run.predictions.parent.mkdir()
    run.predictions.touch()
    assert run.state == "finished"


@pytest.mark.parametrize(("device", "seconds"), [("cpu", 2.0), ("cuda", 9.0)])
def test_a_cpu_is_timed_by_its_own_clock(device: str, seconds: float, tmp_path: Path) -> None:
    summary = {"device": device, "training_seconds": {"wall": 9.0, "cpu": 2.0}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert job(tmp_path).seconds() == seconds


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("epoch,step,train/total\n0,9,1.5\n0,19,1.25\n", 19),
        ("epoch,step\n0,9\n0,1", 1),  # a row that is being written
        ("epoch,step\n", 0),
        ("epoch,loss\n0,9\n", 0),
        ("", 0),
    ],
)
def test_a_running_run_tells_its_steps(text: str, steps: int, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    assert job(tmp_path).steps_done() == steps


def test_a_run_that_has_logged_nothing_has_done_no_step(tmp_path: Path) -> None:
    assert job(tmp_path).steps_done() == 0


def test_scoring_takes_data_and_metric_of_the_plain_student_and_nothing_else() -> None:
    stated = scoring_of(PLAIN, student_in(Path("run")), {"class_path": "Test"})
    arguments = {"folder": "run/student", "trust": True}
    assert stated == {
        "model": {
            "student": {"class_path": "limbeck.models.load_student", "init_args": arguments},
            "metric": "voc",
        },
        "data": {"val": {"class_path": "Test"}, "workers": 1},
        "trainer": {
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "logger": False,
            "devices": 1,  # or all GPUs of the machine, each of which would see a part
            "num_nodes": 1,
        },
    }
    assert scoring_of(PLAIN, {})["data"]["val"] == {"class_path": "V"}


def test_a_name_of_any_kind_is_a_part_of_a_folders_name() -> None:
    assert slug("MGD + KD, time of ../x") == "mgd_kd_time_of_x"
    assert slug("é/\n") == "row"
    assert len(slug("a" * 300)) == 60
