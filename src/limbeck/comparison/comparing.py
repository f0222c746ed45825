"""The order in which a comparison is run, and where it stops."""

import logging
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch

from limbeck.comparison.cautions import better
from limbeck.comparison.comparison import Comparison
from limbeck.comparison.job import Job
from limbeck.comparison.pictures import draw
from limbeck.comparison.progress import steps
from limbeck.comparison.reporting import keep, report_of
from limbeck.comparison.rows import PLAIN, Row
from limbeck.comparison.running import RunFailedError, Runs, ended_together
from limbeck.comparison.scores import Scores
from limbeck.comparison.study import Study
from limbeck.report.findings import Findings

__all__ = ["RunFailedError", "WeakTeacherError", "compare", "planned", "run"]

log = logging.getLogger(__name__)


class WeakTeacherError(ValueError):
    """The teacher is weaker than the plain student, so that there is nothing to learn from it."""


def compare(
    comparison: Comparison,
    output: str | Path,
    *,
    jobs: int | None = None,
    weak_teacher: bool = False,
) -> Findings:
    """Train what a comparison lacks, score all of it, and write the report.

    Args:
        comparison: The comparison, as :func:`limbeck.comparison.read_comparison` reads it.
        output: The folder for the runs, and for ``report.html``, ``report.md`` and ``report.json``.
            Runs in it that are finished are taken over, and one that was ended goes on.
        jobs: The number of runs at once. Default (None): one for each GPU, otherwise one.
        weak_teacher: Whether to go on where the teacher is weaker than the plain student.

    Returns:
        What was found.

    Raises:
        WeakTeacherError: The teacher is weaker than the plain student.
        RunFailedError: A run has failed.
    """
    output = Path(output)
    study = Study(comparison, output)
    keep(comparison, output)
    rows = run(study, jobs=jobs or usual_jobs(), weak_teacher=weak_teacher)
    draw(study.jobs(rows), output)
    return report_of(study, output)


def usual_jobs() -> int:
    """The number of runs at once where nobody says another: one for each GPU, otherwise one."""
    return max(1, torch.cuda.device_count())


def run(study: Study, *, jobs: int = 1, weak_teacher: bool = False) -> list[Row]:
    """Train and score what is missing of a comparison.

    The teacher and the plain student of all seeds come first, then the first seed of the rows whose
    time says how long their controls at equal time are, and then all that is left.

    Args:
        study: The comparison.
        jobs: The number of runs at once.
        weak_teacher: Whether to go on where the teacher is weaker than the plain student.

    Returns:
        All rows, whose runs are finished.

    Raises:
        WeakTeacherError: The teacher is weaker than the plain student.
        RunFailedError: A run has failed.
    """
    first = [row for row in study.rows() if not row.as_long_as]
    teacher = study.teacher_scoring()
    with Runs(study.output / "logs", jobs) as runs, ended_together(runs.end):
        runs.expect(study.jobs(first))
        study.digests.save()  # which took long, and may not be lost with what follows
        plain = [job for job in study.jobs(first) if job.name == PLAIN]
        begins = study.teacher_training or teacher  # the plain student waits for neither
        runs.finish([*filter(None, [begins]), *plain])
        runs.finish([*filter(None, [teacher])])
        if teacher is not None and not weak_teacher:
            refuse_weak(teacher, plain)
        to_time = study.untimed(first)
        runs.finish(study.jobs(to_time)[: len(to_time)])  # of the first seed
        rows = study.rows()
        runs.finish(study.jobs(rows))
    study.digests.save()
    return rows


def refuse_weak(teacher: Job, plain: Sequence[Job]) -> None:
    """Stop where the teacher is weaker than the plain student.

    Args:
        teacher: The scoring of the teacher.
        plain: The runs of the plain student.

    Raises:
        WeakTeacherError: It is so.
    """
    scores = Scores(teacher.scoring)
    plain = scores.defined(plain)
    if not plain or not scores.defined([teacher]):  # the report says why
        return
    (taught,), alone = scores.headlines([teacher]), statistics.mean(scores.headlines(plain))
    log.info("%s: %.3f of the teacher, %.3f of the plain student", scores.headline, taught, alone)
    if not better(taught, alone, scores):
        raise WeakTeacherError(
            f"the teacher is no better than the plain student: its {scores.headline} is "
            f"{taught:.3f}, the plain student's {alone:.3f} (the mean of {len(plain)} seeds). "
            "There is little to learn from it. Give a stronger teacher, look at what it sees "
            "(image size, classes), or go on with --weak_teacher."
        )


def planned(study: Study) -> list[tuple[Job, int]]:
    """The runs of a comparison, as far as they are known, with their optimizer steps.

    Args:
        study: The comparison.

    Returns:
        Each run, and the number of its steps. One that two rows share is there once.
    """
    training = [study.teacher_training] if study.teacher_training is not None else []
    jobs: dict[Path, Job] = {}
    for job in [*training, *study.jobs(study.rows())]:
        jobs.setdefault(job.folder, job)
    by_row = steps(list(jobs.values()))
    return [(job, by_row[job.name]) for job in jobs.values()]
