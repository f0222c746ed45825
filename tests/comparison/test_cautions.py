"""What a report says against its own verdicts: of the teacher, and of the time of controls."""

import json
from pathlib import Path

import numpy as np
import pytest

from limbeck.comparison.cautions import cautions
from limbeck.comparison.finished import Finished
from limbeck.comparison.job import Job
from limbeck.comparison.measuring import measure
from limbeck.comparison.rows import Row
from limbeck.report.intervals import DRAWS, Sampled
from tests.comparison.test_measuring import Told, without_costs

CONTROL = "plain, time of KD"
ROWS = [
    Row("plain", "plain", ({},)),
    Row("KD", "distilled", ({},)),
    Row(CONTROL, "control", ({},), as_long_as=("KD",)),
]


class Spread(Told):
    """Scores that are stated, of models whose draws of the images differ independently."""

    def sampled(self, jobs):
        found = {}
        for job in jobs:
            noise = np.random.default_rng(len(job.name)).normal(0, 0.01, DRAWS)
            score = self.of(job)["mAP"]
            found[job.seed] = Sampled(score, score + noise, 10, 0)
        return found


def finished(folder: Path, seconds: dict[str, float]) -> Finished:
    """Three seeds of each row, and a teacher."""
    jobs = {}
    for row in ROWS:
        jobs[row.name] = [Job(row.name, s, {}, folder / f"{row.name}_{s}", {}) for s in range(3)]
        for job in jobs[row.name]:
            job.folder.mkdir()
            told = {"steps": 3, "training_seconds": {"cpu": seconds.get(row.name, 10.0)}}
            job.summary_path.write_text(json.dumps(told))
    teacher = Job("teacher", None, None, folder / "t", {}, side="teacher")
    return Finished("t", ROWS, jobs, teacher, 0.005)


def scores(teacher: float, student: float = 0.63) -> Spread:
    plain = [0.60, 0.61, 0.62]
    distilled = [student - 0.01, student, student + 0.01]
    return Spread({"teacher": [teacher], "plain": plain, "KD": distilled, CONTROL: plain})


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        (0.60, "The teacher is no better than the plain student"),
        (0.615, "The teacher leads the plain student by 0.0050, which may be chance, so no share"),
    ],
)
def test_of_a_teacher_without_a_sure_lead_no_share_is_shown(
    tmp_path: Path, teacher: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_costs(monkeypatch, ("teacher", *(row.name for row in ROWS)))
    found = measure(finished(tmp_path, {}), scores(teacher, student=0.60))
    assert [each for each in found.cautions if each.startswith(said)]
    assert all(row.share_of_lead is None for row in found.rows)


def test_of_a_teacher_that_leads_the_share_is_shown_and_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_costs(monkeypatch, ("teacher", *(row.name for row in ROWS)))
    found = measure(finished(tmp_path, {}), scores(0.81))
    assert found.cautions == []
    shares = {row.name: row.share_of_lead for row in found.rows}
    assert shares["KD"] == pytest.approx(0.02 / 0.20)
    assert shares["teacher"] is shares["plain"] is None


def test_a_teacher_that_its_student_surpasses_is_told(tmp_path: Path) -> None:
    (said,) = cautions(finished(tmp_path, {}), scores(0.70, student=0.75))
    assert said.startswith("KD (0.750) is better than the teacher (0.700).")


def test_a_control_that_had_less_time_than_its_row_is_told(tmp_path: Path) -> None:
    runs = finished(tmp_path, {"KD": 20.0, CONTROL: 15.0})
    (said,) = cautions(runs, scores(0.81))
    assert said.startswith("plain, time of KD was trained for 15 s and KD for 20 s, so that")


def test_a_control_that_had_more_time_than_its_row_is_told(tmp_path: Path) -> None:
    (said,) = cautions(finished(tmp_path, {"KD": 12.0, CONTROL: 20.0}), scores(0.81))
    assert said.startswith("plain, time of KD was trained for 20 s, which is longer than its rows")
    assert "(KD for 12 s)" in said


def test_a_control_of_about_the_same_time_is_not(tmp_path: Path) -> None:
    assert cautions(finished(tmp_path, {"KD": 20.0, CONTROL: 19.0}), scores(0.81)) == []


def test_where_less_is_better_a_teacher_with_less_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_costs(monkeypatch, ("teacher", *(row.name for row in ROWS)))
    errors = scores(0.41)
    monkeypatch.setattr(errors, "higher_is_better", False)
    found = measure(finished(tmp_path, {}), errors)
    shares = {row.name: row.share_of_lead for row in found.rows}
    assert shares["KD"] == pytest.approx(-0.02 / 0.20), "its error is larger"
    assert found.cautions == []


def test_without_a_score_of_the_teacher_nothing_is_said_of_it(tmp_path: Path) -> None:
    assert cautions(finished(tmp_path, {}), scores(float("nan"))) == [
        "The mAP of teacher is not defined on these images, since AP/head is not: so it is with "
        "VOC's by area where a model finds a class of which there is no object. They are left out "
        "of means, differences and verdicts."
    ]
