"""A comparison at work: which runs it needs, what is there of them, and what comes next."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from limbeck.comparison.comparison import Comparison
from limbeck.comparison.finished import Finished
from limbeck.comparison.identity import Digests, files_named, identity
from limbeck.comparison.job import Job, scoring_of, slug, student_in
from limbeck.comparison.parts import data_of
from limbeck.comparison.rows import (
    PLAIN,
    TEACHER,
    UNMEASURED,
    Row,
    measured_teacher,
    rows_of,
    stated_teachers,
)
from limbeck.recipe import Recipe, laid_over, value_at
from limbeck.texts import read_text
from limbeck.training.data import refuse_unlike
from limbeck.whole import write_whole


class Study:
    """The runs of a comparison, each in a folder that is named by what it is.

    Args:
        comparison: The comparison.
        output: The folder of the comparison: its runs are in ``runs``, what they said in ``logs``.

    Attributes:
        comparison: The comparison, with the teacher that it trains where it trains one.
        teacher_training: The run that trains the teacher. None: it is there, or there is none.
    """

    def __init__(self, comparison: Comparison, output: Path) -> None:
        _refuse_partial(laid_over(comparison.plain))
        self.output = output
        self.runs = output / "runs"
        self.digests = Digests(output / "digests.json")
        # Of runs, by the ends of their names, which say what they are.
        self._folders: dict[str, Path] = {}
        self.comparison = comparison
        self.teacher_training: Job | None = None
        self._scored_with = identity(self._scored(None), 0, self.digests, self.runs)
        if comparison.teacher_recipe is not None:
            recipe = laid_over(comparison.teacher_recipe)
            self.teacher_training = self._job(TEACHER, recipe, comparison.seeds[0])
            teacher = student_in(self.teacher_training.folder)
            self.comparison = replace(comparison, teacher=teacher, teacher_recipe=None)

    def refuse_other_images(self) -> None:
        """Refuse ``scored_on`` where its classes are not those of the plain student's data.

        Raises:
            ValueError: They are others, or there is no such dataset.
        """
        if self.comparison.scored_on is not None:
            own = scoring_of(laid_over(self.comparison.plain), None)
            theirs, ours = (data_of(each).val for each in (own, self._scored(None)))
            refuse_unlike(theirs, ours, ("the plain student's data.val", "scored_on"))

    def rows(self) -> list[Row]:
        """The rows, as far as the times that they depend on are measured."""
        ratios = self.time_ratios()
        return rows_of(self.comparison, ratios)

    def jobs(self, rows: Sequence[Row]) -> list[Job]:
        """The runs of some rows, seed by seed."""
        return [
            self._job(row.name, laid_over(row.recipes), seed)
            for seed in self.comparison.seeds
            for row in rows
        ]

    def teacher_scoring(self) -> Job | None:
        """The scoring of the teacher, beside a student that is not looked at; None: none is scored.

        Of several teachers it is the first that predicts what the student does.
        """
        stated = measured_teacher(self._taught())
        if stated is None:
            return None
        scoring = self._scored(laid_over(self.comparison.plain)["model"]["student"])
        scoring["model"]["teacher"] = stated
        known = identity(scoring, 0, self.digests, self.runs)
        folder = self.runs / f"{TEACHER}_scored_{known}"
        return Job(TEACHER, None, None, folder, scoring, side="teacher")

    def time_ratios(self) -> dict[str, float]:
        """How many times as long each row takes to train as the plain student.

        It is measured once, of the first seed's runs, and written down: training again what stops
        at another step because a machine was busy would be another comparison.

        Returns:
            The ratios, to hundredths, by the names of distilled rows; those without a finished run
            are left out, unless the comparison states their ratio.
        """
        path = self.output / "times.json"
        known: dict[str, float] = json.loads(read_text(path)) if path.exists() else {}
        rows = rows_of(self.comparison, {})
        jobs = {job.name: job for job in self.jobs(rows)[: len(rows)]}
        found = dict(self.comparison.time_ratios)
        for row in rows:
            job, plain = jobs[row.name], jobs[PLAIN]
            if row.name in found or row.kind != "distilled":
                continue
            key = f"{job.folder.name} to {plain.folder.name}"
            trained = ("trained", "finished")
            if key not in known and job.state in trained and plain.state in trained:
                known[key] = round(job.seconds() / plain.seconds(), 2)
                write_whole(path, json.dumps(known, indent=2) + "\n")
            if key in known:
                found[row.name] = known[key]
        return found

    def untimed(self, rows: Sequence[Row]) -> list[Row]:
        """The rows whose time has to be known before all rows are."""
        if not self.comparison.controls.equal_time:
            return []
        timed = self.time_ratios()
        return [row for row in rows if row.kind == "distilled" and row.name not in timed]

    def finished(self, rows: Sequence[Row]) -> Finished:
        """The finished runs of some rows; what is not finished is left out, and said.

        Args:
            rows: The rows, the plain student first.

        Returns:
            The runs.

        Raises:
            ValueError: No run of the plain student is finished.
        """
        jobs = self.jobs(rows)
        done = [job for job in jobs if job.state == "finished"]
        by_row = {row.name: [job for job in done if job.name == row.name] for row in rows}
        if not by_row[PLAIN]:
            raise ValueError(
                f"{self.output}: no run of the plain student is finished, of the comparison as it "
                "is now: with other data, another version of limbeck, or from another folder than "
                f"they were begun in, runs are other ones. Run `limbeck compare`, or look into "
                f"{self.runs} and give `limbeck report` folders of it."
            )
        comparison, cautions = self.comparison, []
        if left := len(jobs) - len(done):
            cautions.append(f"{left} of {len(jobs)} runs are not finished, and are left out.")
        if comparison.scored_on is None:
            cautions.append(
                "Scores are of the validation data, by which recipes may have been chosen."
            )
        teacher = self.teacher_scoring()
        if teacher is None and any(map(stated_teachers, self._taught())):
            cautions.append(UNMEASURED)
        return Finished(
            title=comparison.title,
            rows=[row for row in rows if by_row[row.name]],
            jobs={name: of_row for name, of_row in by_row.items() if of_row},
            teacher=teacher if teacher is not None and teacher.state == "finished" else None,
            smallest_gain=comparison.smallest_gain,
            cautions=cautions,
            provenance=self._digests(jobs) | dict(comparison.notes),
        )

    def _taught(self) -> list[Recipe]:
        """What states teachers: the comparison itself, and then its rows."""
        rows = [laid_over(row.recipes) for row in rows_of(self.comparison, {})]
        return [{"model": {"teacher": self.comparison.teacher}}, *rows]

    def _digests(self, jobs: Sequence[Job]) -> dict[str, str]:
        """The digests of data and weights that the runs have read."""
        read = [job.recipe for job in jobs] + [job.scoring for job in jobs]
        outside = sorted(p for p in files_named(read) if self.output not in p.parents)
        return {f"sha256 of {path}": self.digests.of(path) for path in outside}

    def _job(self, name: str, recipe: Recipe, seed: int) -> Job:
        known = f"{seed}_{identity(recipe, seed, self.digests, self.runs)}"
        # By the name of another row, perhaps; a finished one before one that is only begun.
        there = sorted(self.runs.glob(f"*_{known}"), key=lambda p: (not _is_trained(p), p))
        new = there[0] if there else self.runs / f"{slug(name)}_{known}"
        folder = self._folders.setdefault(known, new)
        own = {"seed_everything": seed, "trainer": {"default_root_dir": str(folder)}}
        quiet = {"trainer": {"enable_progress_bar": False}}
        scoring = self._scored(student_in(folder))
        whole = laid_over([recipe, own, quiet])
        return Job(name, seed, whole, folder, scoring, scored=self._scored_with)

    def _scored(self, student: Any) -> Recipe:
        plain = laid_over(self.comparison.plain)
        return scoring_of(plain, student, self.comparison.scored_on)


def _refuse_partial(plain: Recipe) -> None:
    for key in ("model.student", "data.val"):
        if value_at(plain, key) is None:
            raise ValueError(
                f"plain states no {key}; expected the whole recipe of the plain student, over "
                "which rows are laid. Give one, and state what is laid over it under rows."
            )


def _is_trained(run: Path) -> bool:
    return (run / "summary.json").exists()
