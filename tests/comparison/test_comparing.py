"""The order in which the runs of a comparison are trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from limbeck.comparison import comparing
from limbeck.comparison.job import Job
from limbeck.comparison.rows import PLAIN, TWICE, Row
from tests.comparison.test_study import study as study_of

SEEDS = (0, 1)


class Measured:
    """A comparison whose control at equal time is known once the first seed's runs are there."""

    digests = SimpleNamespace(save=lambda: None)

    def __init__(self, output: Path, stated: Mapping[str, float]) -> None:
        self.output = output
        self.stated = stated
        self.trained: list[tuple[str, int | None]] = []
        self.teacher_training = Job("teacher", None, {}, output / "teacher", {})

    def untimed(self, rows: Sequence[Row]) -> list[Row]:
        measured = {(PLAIN, 0), ("KD", 0)} <= set(self.trained)
        return [] if measured or self.stated else rows[1:]

    def rows(self) -> list[Row]:
        rows = [Row(PLAIN, "plain", ()), Row("KD", "distilled", ())]
        if not self.untimed(rows):
            rows.append(Row("plain, time of KD", "control", (), as_long_as=("KD",)))
        return rows

    def jobs(self, rows: Sequence[Row]) -> list[Job]:
        return [
            Job(row.name, seed, {}, self.output / f"{row.name}_{seed}", {})
            for seed in SEEDS
            for row in rows
        ]

    def teacher_scoring(self) -> Job:
        return Job("its scoring", None, None, self.output / "scored", {}, side="teacher")


@pytest.mark.parametrize(
    ("stated", "batches"),
    [
        (
            {},
            [
                [("teacher", None), (PLAIN, 0), (PLAIN, 1)],
                [("its scoring", None)],
                [("KD", 0)],
                [("plain, time of KD", 0), ("KD", 1), ("plain, time of KD", 1)],
            ],
        ),
        (
            {"KD": 2.0},
            [
                [("teacher", None), (PLAIN, 0), (PLAIN, 1)],
                [("its scoring", None)],
                [],
                [("KD", 0), ("plain, time of KD", 0), ("KD", 1), ("plain, time of KD", 1)],
            ],
        ),
    ],
    ids=["measured", "stated"],
)
def test_controls_at_equal_time_wait_for_no_more_than_the_time(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stated: Mapping[str, float],
    batches: list[list[tuple[str, int | None]]],
) -> None:
    study = Measured(tmp_path, stated)
    together: list[list[tuple[str, int | None]]] = []

    def finish(_: object, jobs: Sequence[Job]) -> None:
        missing = [
            (job.name, job.seed) for job in jobs if (job.name, job.seed) not in study.trained
        ]
        study.trained += missing
        together.append(missing)

    monkeypatch.setattr(comparing.Runs, "finish", finish)
    monkeypatch.setattr(comparing.Runs, "expect", lambda *_: None)
    rows = comparing.run(study, jobs=2, weak_teacher=True)
    assert together == batches
    assert [row.name for row in rows] == [PLAIN, "KD", "plain, time of KD"]


def test_a_run_that_two_rows_share_is_planned_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "steps", lambda jobs: {job.name: 8 for job in jobs})
    plan = comparing.planned(study_of(tmp_path, time_ratios={"KD": 2.0}))
    of_one_seed = [job.name for job, _ in plan if job.seed == 0]
    assert of_one_seed == [PLAIN, "KD", TWICE]
