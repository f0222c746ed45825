"""What finished runs show: scores, costs, differences, verdicts."""

import math
import platform
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torchvision

import limbeck
from limbeck.comparison.job import Job
from limbeck.comparison.parts import model_of
from limbeck.comparison.rows import TEACHER, TWICE, Row, controls_of
from limbeck.comparison.scores import Scores
from limbeck.metrics.predictions import Predictions
from limbeck.models import load_student
from limbeck.recipe import differences, laid_over, value_at
from limbeck.report import Cost, measure_cost, measure_latencies
from limbeck.report.findings import Compared, Contrast, Findings, Trained
from limbeck.report.intervals import paired_difference, rule, undertrained, verdict


@dataclass(frozen=True)
class Finished:
    """Finished runs, row by row.

    Attributes:
        title: What the report is called.
        rows: The rows, of which the first is the plain student.
        jobs: The finished runs of each row, by its name.
        teacher: The scoring of the teacher. None: there is none.
        smallest_gain: The smallest gain in the headline that is worth having.
        cautions: What a reader has to know before the verdicts, besides what the runs show.
        provenance: Where the numbers are from, besides versions and machine.
    """

    title: str
    rows: Sequence[Row]
    jobs: Mapping[str, Sequence[Job]]
    teacher: Job | None
    smallest_gain: float
    cautions: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)


def measure(runs: Finished, scores: Scores) -> Findings:
    """Find out what finished runs show.

    Args:
        runs: The runs.
        scores: Their scores.

    Returns:
        The findings.
    """
    contrasts = [
        _contrast(runs, scores, row, control)
        for row in runs.rows
        if row.kind == "distilled"
        for control in controls_of(row, runs.rows)
        if _seeds(runs, scores, row) & _seeds(runs, scores, control)  # some may be unfinished
    ]
    return Findings(
        title=runs.title,
        headline=scores.headline,
        higher_is_better=scores.higher_is_better,
        rows=_compared(runs, scores),
        contrasts=contrasts,
        rule=rule(runs.smallest_gain),
        cautions=[*_cautions(runs, scores), *runs.cautions],
        provenance={**_versions(runs), **runs.provenance},
    )


def _seeds(runs: Finished, scores: Scores, row: Row) -> set[int | None]:
    return {job.seed for job in scores.defined(runs.jobs[row.name])}


def _contrast(runs: Finished, scores: Scores, row: Row, control: Row) -> Contrast:
    found = paired_difference(
        scores.sampled(scores.defined(runs.jobs[row.name])),
        scores.sampled(scores.defined(runs.jobs[control.name])),
        higher_is_better=scores.higher_is_better,
    )
    return Contrast(
        row=row.name,
        control=control.name,
        mean=found.mean,
        by_seed=found.by_seed,
        over_images=found.over_images,
        over_seeds=found.over_seeds,
        verdict=verdict(found, runs.smallest_gain),
    )


def _compared(runs: Finished, scores: Scores) -> list[Compared]:
    """Every row with its scores and costs, the teacher first."""
    plain = laid_over(runs.rows[0].recipes)
    found = []
    if runs.teacher is not None:
        told = _finite(scores.of(runs.teacher))
        trained = Trained(None, None, runs.teacher.predictions, told)
        found.append(Compared(TEACHER, "teacher", [trained]))
    for row in runs.rows:
        jobs = runs.jobs[row.name]
        lines = [line for _, line in differences(plain, laid_over(row.recipes))]
        command = f"limbeck fit --config {jobs[0].folder / 'config.yaml'}"
        trained_runs = [_trained(job, scores) for job in jobs]
        found.append(Compared(row.name, row.kind, trained_runs, None, None, lines, command))
    costs, shares = _costs(runs), _shares(found, scores)
    return [
        replace(each, cost=costs[each.name], share_of_lead=shares.get(each.name)) for each in found
    ]


def _trained(job: Job, scores: Scores) -> Trained:
    summary = job.summary()
    return Trained(
        seed=job.seed,
        folder=job.folder,
        predictions=job.predictions,
        scores=_finite(scores.of(job)),
        steps=summary["steps"],
        seconds=job.seconds(),
        peak_memory_mib=summary.get("peak_memory_mib"),
    )


def _finite(scores: Mapping[str, float]) -> dict[str, float]:
    """The scores that are numbers: what is not defined is missing in the report."""
    return {name: score for name, score in scores.items() if math.isfinite(score)}


def _shares(rows: Sequence[Compared], scores: Scores) -> dict[str, float]:
    """The share of the teacher's lead over the plain student that each other row closes."""
    known = {
        row.name: [run.scores[scores.headline] for run in row.runs if scores.headline in run.scores]
        for row in rows
    }
    means = {name: statistics.mean(values) for name, values in known.items() if values}
    plain = next(row.name for row in rows if row.kind == "plain")
    if not {TEACHER, plain} <= means.keys():
        return {}
    lead = means[TEACHER] - means[plain]
    if not lead or (lead > 0) is not scores.higher_is_better:
        return {}
    return {
        name: (mean - means[plain]) / lead
        for name, mean in means.items()
        if name not in (TEACHER, plain)
    }


def _costs(runs: Finished) -> dict[str, Cost]:
    """What one image costs each model, of the size that most images have."""
    # Rows of one network cost the same, whatever taught it.
    networks = {row.name: value_at(laid_over(row.recipes), "model.student") for row in runs.rows}
    alike = {
        name: next(first for first, other in networks.items() if other == network)
        for name, network in networks.items()
    }
    models = {
        name: load_student(runs.jobs[name][0].folder / "student", trust=True)
        for name in dict.fromkeys(alike.values())
    }
    if runs.teacher is not None:
        models[TEACHER] = model_of(runs.teacher.scoring["model"]["teacher"])
        alike[TEACHER] = TEACHER
    sizes = Predictions.load(runs.jobs[runs.rows[0].name][0].predictions).sizes
    height, width = Counter(map(tuple, sizes.tolist())).most_common(1)[0][0]
    latencies = measure_latencies(models, (height, width))
    costs = {
        name: replace(measure_cost(model, (height, width)), latency_ms=latencies[name])
        for name, model in models.items()
    }
    return {name: costs[first] for name, first in alike.items()}


def _cautions(runs: Finished, scores: Scores) -> list[str]:
    """What a reader has to know before the verdicts."""
    found = []
    plain = runs.jobs[runs.rows[0].name]
    if len(plain) < 3:
        few = "is one seed" if len(plain) == 1 else f"are {len(plain)} seeds"
        found.append(
            f"There {few}: how much training runs differ among themselves is hardly known. Give "
            "three seeds or more."
        )
    found += [*unequal_steps(runs), *_undefined(runs, scores), *_unequal_torch(runs)]
    plain = scores.defined(plain)
    longer = scores.defined(runs.jobs.get(TWICE, ()))
    if {job.seed for job in plain} & {job.seed for job in longer}:
        sentence = undertrained(
            scores.sampled(plain),
            scores.sampled(longer),
            higher_is_better=scores.higher_is_better,
        )
        found += [sentence] if sentence else []
    teacher = scores.defined([runs.teacher] if runs.teacher is not None else [])
    if teacher and plain:
        (taught,) = scores.headlines(teacher)
        if not better(taught, statistics.mean(scores.headlines(plain)), scores):
            found.append(
                "The teacher is no better than the plain student: there is little to learn from it."
            )
    return found


def _undefined(runs: Finished, scores: Scores) -> Iterator[str]:
    """Say of which runs the headline is not defined, and why."""
    teacher = [runs.teacher] if runs.teacher is not None else []
    jobs = [*teacher, *(job for of_row in runs.jobs.values() for job in of_row)]
    missing = [job for job in jobs if not math.isfinite(scores.of(job)[scores.headline])]
    if missing:
        first = scores.of(missing[0])
        parts = [name for name, score in first.items() if not math.isfinite(score)]
        parts.remove(scores.headline)
        yield (
            f"The {scores.headline} of {', '.join(job.title for job in missing)} is not defined on "
            f"these images, since {', '.join(parts) or 'it'} is not: so it is with VOC's by area "
            "where a model finds a class of which there is no object. They are left out of means, "
            "differences and verdicts."
        )


def _unequal_torch(runs: Finished) -> Iterator[str]:
    """Say which versions of torch the runs were trained with, where there are several."""
    versions = _torch_versions(runs)
    if len(versions) > 1:
        told = "; ".join(f"{version}: {', '.join(titles)}" for version, titles in versions.items())
        yield f"The runs were trained with several versions of torch ({told})."


def _torch_versions(runs: Finished) -> dict[str, list[str]]:
    """The runs that each version of torch has trained, by their titles."""
    found: dict[str, list[str]] = {}
    for job in (job for of_row in runs.jobs.values() for job in of_row):
        version = job.summary().get("torch")  # it was not always written
        if version is not None:
            found.setdefault(version, []).append(job.title)
    return dict(sorted(found.items()))


def unequal_steps(runs: Finished) -> list[str]:
    """Say which distilled rows are trained for other numbers of steps than the plain student.

    Args:
        runs: The runs.

    Returns:
        A sentence for each such row.
    """
    steps = {row.name: runs.jobs[row.name][0].summary()["steps"] for row in runs.rows}
    plain = steps[runs.rows[0].name]
    return [
        f"{row.name} is trained for {steps[row.name]:,} steps and the plain student for {plain:,}, "
        "so that the two are not compared at equal steps."
        for row in runs.rows
        if row.kind == "distilled" and steps[row.name] != plain
    ]


def better(one: float, other: float, scores: Scores) -> bool:
    """Whether one headline is better than another."""
    return one > other if scores.higher_is_better else one < other


def _versions(runs: Finished) -> dict[str, str]:
    """What the numbers were made with."""
    job = next(iter(runs.jobs.values()))[0]
    device = job.summary().get("device", "cpu")
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
    return {
        "limbeck": limbeck.__version__,
        "torch": ", ".join(_torch_versions(runs)) or torch.__version__,
        "torchvision": torchvision.__version__,
        "Python": platform.python_version(),
        "machine": f"{name or platform.machine()}, trained on {device}",
        "seeds": ", ".join(str(job.seed) for job in runs.jobs[runs.rows[0].name]),
    }
