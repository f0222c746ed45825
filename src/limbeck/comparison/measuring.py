"""What finished runs show: scores, costs, differences, verdicts."""

import math
import platform
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torchvision

import limbeck
from limbeck.comparison.cautions import cautions, is_sure, lead, torch_versions
from limbeck.comparison.finished import Finished
from limbeck.comparison.job import Job
from limbeck.comparison.parts import model_of
from limbeck.comparison.rows import TEACHER, Row, controls_of
from limbeck.comparison.scores import Scores
from limbeck.metrics.predictions import Predictions
from limbeck.models import load_student
from limbeck.names import in_shell
from limbeck.recipe import differences, laid_over, value_at
from limbeck.report import Cost, measure_cost, measure_latencies
from limbeck.report.findings import Compared, Contrast, Findings, Trained
from limbeck.report.intervals import paired_difference, rule, verdict


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
        cautions=cautions(runs, scores),
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
        command = _command(jobs[0].folder)
        trained_runs = [_trained(job, scores) for job in jobs]
        found.append(Compared(row.name, row.kind, trained_runs, None, None, lines, command))
    costs, shares = _costs(runs), _shares(found, runs, scores)
    return [
        replace(each, cost=costs[each.name], share_of_lead=shares.get(each.name)) for each in found
    ]


def _command(run: Path) -> str:
    """The command that trains a run again, into a folder of its own."""
    again = Path("runs", "again", run.name)
    return (
        f"limbeck fit --config {in_shell(run / 'config.yaml')} --trainer.default_root_dir "
        f"{in_shell(again)}"
    )


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


def _shares(rows: Sequence[Compared], runs: Finished, scores: Scores) -> dict[str, float]:
    """The share of the teacher's lead over the plain student that each other row closes.

    Of a lead that may be chance a share says nothing, so there is none.
    """
    leading = lead(runs, scores)
    if leading is None or not is_sure(leading):
        return {}
    known = {
        row.name: [run.scores[scores.headline] for run in row.runs if scores.headline in run.scores]
        for row in rows
    }
    means = {name: statistics.mean(values) for name, values in known.items() if values}
    plain = means[runs.rows[0].name]
    return {
        name: (mean - plain) / (means[TEACHER] - plain)
        for name, mean in means.items()
        if name not in (TEACHER, runs.rows[0].name)
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


def _versions(runs: Finished) -> dict[str, str]:
    """What the numbers were made with."""
    summary = next(iter(runs.jobs.values()))[0].summary()
    device = summary.get("device", "cpu")
    name = summary.get("machine", platform.processor() if device == "cpu" else "")
    return {
        "limbeck": limbeck.__version__,
        "torch": ", ".join(torch_versions(runs)) or torch.__version__,
        "torchvision": torchvision.__version__,
        "Python": platform.python_version(),
        "machine": f"{name or platform.machine()}, trained on {device}",
        "seeds": ", ".join(str(job.seed) for job in runs.jobs[runs.rows[0].name]),
    }
