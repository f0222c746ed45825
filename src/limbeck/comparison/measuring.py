"""What the finished runs of a comparison show: scores, costs, differences, verdicts."""

import platform
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torchvision
from torchmetrics import Metric

import limbeck
from limbeck.comparison.identity import files_named
from limbeck.comparison.job import Job
from limbeck.comparison.parts import NewMetric, data_of, metric_of, model_of
from limbeck.comparison.rows import PLAIN, TEACHER, TWICE, Row, controls_of
from limbeck.comparison.study import Study
from limbeck.metrics.predictions import Predictions
from limbeck.metrics.resampled import resampled
from limbeck.models import load_student
from limbeck.recipe import Recipe, differences, laid_over
from limbeck.report import Cost, measure_cost, measure_latencies
from limbeck.report.findings import Compared, Contrast, Findings, Trained
from limbeck.report.intervals import (
    Sampled,
    paired_difference,
    rule,
    sampled,
    undertrained,
    verdict,
)
from limbeck.training.scoring import headline_of, higher_is_better, named_scores


class Measured:
    """The scores of a comparison's runs, each computed once, from what their models predict.

    Args:
        study: The comparison.

    Attributes:
        headline_name: The name of the score that rows are compared by.
        higher_is_better: Whether more of it is better.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self._new_metric: NewMetric | None = None
        self._scores: dict[Path, dict[str, float]] = {}
        self._sampled: dict[Path, Sampled] = {}
        metric = self.new_metric()
        self.headline_name = headline_of(metric)
        self.higher_is_better = higher_is_better(metric)

    def new_metric(self) -> Metric:
        """A metric that has seen nothing yet."""
        if self._new_metric is None:
            data = data_of(scored_recipe(self.study))
            plain = laid_over(self.study.comparison.plain)
            self._new_metric = metric_of(plain, data.task, data.classes)
        return self._new_metric()

    def scores(self, job: Job) -> dict[str, float]:
        """All scores of a finished run, by their names."""
        if job.predictions not in self._scores:
            metric = Predictions.load(job.predictions).measured(self.new_metric())
            found = {name: float(value) for name, value in named_scores(metric).items()}
            self._scores[job.predictions] = found
        return self._scores[job.predictions]

    def headline(self, job: Job) -> float:
        """The score by which a finished run is judged."""
        return self.scores(job)[self.headline_name]

    def sampled(self, jobs: Sequence[Job]) -> dict[int | None, Sampled]:
        """The headlines of finished runs of one row in many draws of the images, by seed."""
        for job in jobs:
            if job.predictions not in self._sampled:
                predictions = Predictions.load(job.predictions)
                ready = resampled(self.new_metric(), predictions)
                self._sampled[job.predictions] = sampled(ready)
        return {job.seed: self._sampled[job.predictions] for job in jobs}


def scored_recipe(study: Study) -> Recipe:
    """The recipe of the data that everything in a comparison is scored on."""
    return study.jobs(study.rows()[:1])[0].scoring


def measure(study: Study, rows: Sequence[Row]) -> Findings:
    """Find out what a comparison shows.

    Args:
        study: The comparison.
        rows: Its rows, whose runs are finished.

    Returns:
        The findings.
    """
    measured = Measured(study)
    jobs = {row.name: [j for j in study.jobs(rows) if j.name == row.name] for row in rows}
    teacher = study.teacher_scoring()
    contrasts = [
        _contrast(measured, row, control, jobs)
        for row in rows
        if row.kind == "distilled"
        for control in controls_of(row, rows)
    ]
    comparison = study.comparison
    return Findings(
        title=comparison.title,
        headline=measured.headline_name,
        higher_is_better=measured.higher_is_better,
        rows=_compared(measured, rows, jobs, teacher),
        contrasts=contrasts,
        rule=rule(comparison.smallest_gain),
        cautions=_cautions(measured, jobs, teacher),
        provenance=_provenance(study, jobs),
    )


def _contrast(
    measured: Measured, row: Row, control: Row, jobs: Mapping[str, Sequence[Job]]
) -> Contrast:
    found = paired_difference(
        measured.sampled(jobs[row.name]),
        measured.sampled(jobs[control.name]),
        higher_is_better=measured.higher_is_better,
    )
    gain = measured.study.comparison.smallest_gain
    return Contrast(
        row=row.name,
        control=control.name,
        mean=found.mean,
        by_seed=found.by_seed,
        over_images=found.over_images,
        over_seeds=found.over_seeds,
        verdict=verdict(found, gain),
    )


def _compared(
    measured: Measured, rows: Sequence[Row], jobs: Mapping[str, Sequence[Job]], teacher: Job | None
) -> list[Compared]:
    """Every row with its scores and costs, the teacher first."""
    study, plain = measured.study, laid_over(rows[0].recipes)
    found = []
    if teacher is not None:
        trained = Trained(None, None, teacher.predictions, measured.scores(teacher))
        found.append(Compared(TEACHER, "teacher", [trained]))
    for row in rows:
        runs = [_trained(measured, job) for job in jobs[row.name]]
        stated = laid_over(row.recipes)
        lines = [line for _, line in differences(plain, stated)]
        recipe = study.output / "logs" / f"{jobs[row.name][0].folder.name}.yaml"
        found.append(
            Compared(row.name, row.kind, runs, None, None, lines, f"limbeck fit --config {recipe}")
        )
    costs = _costs({row.name: jobs[row.name][0] for row in rows}, teacher)
    shares = _shares(found, measured)
    return [
        replace(each, cost=costs[each.name], share_of_lead=shares.get(each.name)) for each in found
    ]


def _trained(measured: Measured, job: Job) -> Trained:
    summary = job.summary()
    return Trained(
        seed=job.seed,
        folder=job.folder,
        predictions=job.predictions,
        scores=measured.scores(job),
        steps=summary["steps"],
        seconds=job.seconds(),
    )


def _shares(rows: Sequence[Compared], measured: Measured) -> dict[str, float]:
    """The share of the teacher's lead over the plain student that each other row closes."""
    means = {
        row.name: statistics.mean(run.scores[measured.headline_name] for run in row.runs)
        for row in rows
    }
    if TEACHER not in means:
        return {}
    lead = means[TEACHER] - means[PLAIN]
    if (lead > 0) is not measured.higher_is_better or not lead:
        return {}
    others = means.keys() - {TEACHER, PLAIN}
    return {name: (means[name] - means[PLAIN]) / lead for name in others}


def _costs(jobs: Mapping[str, Job], teacher: Job | None) -> dict[str, Cost]:
    """What each model costs; students of one build are the same network, and are timed once."""
    sizes = Predictions.load(next(iter(jobs.values())).predictions).sizes
    height, width = Counter(map(tuple, sizes.tolist())).most_common(1)[0][0]
    models = {name: load_student(job.folder / "student", trust=True) for name, job in jobs.items()}
    if teacher is not None:
        models[TEACHER] = model_of(teacher.scoring["model"]["teacher"])
    latencies = measure_latencies(models, (height, width))
    return {
        name: replace(measure_cost(model, (height, width)), latency_ms=latencies[name])
        for name, model in models.items()
    }


def _cautions(
    measured: Measured, jobs: Mapping[str, Sequence[Job]], teacher: Job | None
) -> list[str]:
    """What a reader has to know before the verdicts."""
    found = []
    seeds = len(jobs[PLAIN])
    if seeds < 3:
        found.append(
            f"There {'is one seed' if seeds == 1 else f'are {seeds} seeds'}: how much training "
            "runs differ among themselves is hardly known. Give three seeds or more."
        )
    if TWICE in jobs:
        plain, twice = (measured.sampled(jobs[name]) for name in (PLAIN, TWICE))
        sentence = undertrained(plain, twice, higher_is_better=measured.higher_is_better)
        found += [sentence] if sentence else []
    if teacher is not None:
        lead = measured.headline(teacher) - statistics.mean(map(measured.headline, jobs[PLAIN]))
        if (lead <= 0) is measured.higher_is_better:
            found.append("The teacher is no better than the plain student.")
    if measured.study.comparison.scored_on is None:
        found.append(
            "Scores are of the validation data, by which recipes and weights may have been chosen."
        )
    return found


def _provenance(study: Study, jobs: Mapping[str, Sequence[Job]]) -> dict[str, str]:
    """Where the numbers are from."""
    device = next(iter(jobs.values()))[0].summary().get("device", "cpu")
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
    stated = [job.recipe for of_row in jobs.values() for job in of_row]
    outside = sorted(p for p in files_named(stated) if study.output not in p.parents)
    digests = {f"sha256 of {path}": study.digests.of(path)[:16] for path in outside}
    return {
        "limbeck": limbeck.__version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "Python": platform.python_version(),
        "machine": f"{name or platform.machine()}, {device}",
        "seeds": ", ".join(map(str, study.comparison.seeds)),
        **digests,
        **study.comparison.notes,
    }
