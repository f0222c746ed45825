"""All that the page shows beyond the findings themselves, computed from the predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.data.base import Task
from limbeck.metrics.predictions import Predictions
from limbeck.report.findings import Findings, Kind
from limbeck.report.page.calibration import (
    Calibration,
    Threshold,
    best_threshold,
    calibrate,
    calibrate_classes,
    precision_by_recall,
)
from limbeck.report.page.classes import Breakdown, break_down
from limbeck.report.page.confusion import Confusion, confuse
from limbeck.report.page.curves import Curves, read_curves
from limbeck.report.page.detection import Judged, evaluate, judge
from limbeck.report.page.errors import ErrorKind, error_kinds
from limbeck.report.page.gallery import Gallery, Images, choose
from limbeck.report.page.rows import DETAILED, detailed_rows


@dataclass(frozen=True)
class Detail:
    """What is shown of the teacher, the plain and the best distilled student: of its first run.

    Attributes:
        name: The name of the row.
        seed: The seed of the run, or None where it was not trained here.
        calibration: How well its scores say how often they are right.
        errors: The kinds of its errors (detection).
        precision: The precision at recalls 0, .01, ... as far as recall goes (detection).
        threshold: The threshold of the best F1 (detection).
        confusion: Which classes it takes for which (classification).
    """

    name: str
    seed: int | None
    calibration: Calibration
    errors: Sequence[ErrorKind] = ()
    precision: Sequence[float] = ()
    threshold: Threshold | None = None
    confusion: Confusion | None = None


@dataclass(frozen=True)
class Shown:
    """All that the page shows beyond the findings.

    Attributes:
        task: The task.
        classes: The names of the classes.
        details: The first run of the teacher, the plain and the best distilled student, by kind.
        by_class: The score by class.
        by_size: The score by the size of objects (detection).
        curves: The curves of training by the row's name.
        gallery: The images on which distillation helped and hurt most.
    """

    task: Task
    classes: Sequence[str]
    details: Mapping[Kind, Detail]
    by_class: Breakdown
    by_size: Breakdown | None
    curves: Mapping[str, Curves]
    gallery: Gallery


def gather(findings: Findings, data: Images) -> Shown:
    """Compute what the page shows.

    Args:
        findings: What the comparison has found.
        data: The images that it was scored on.

    Returns:
        What is shown.

    Raises:
        ValueError: No row was scored, or predictions are not of these images.
    """
    detailed = detailed_rows(findings)
    if not detailed:
        raise ValueError(f"{findings.title!r} has no teacher, plain or distilled row with a run")
    predictions = {kind: _load(row.runs[0].predictions, data) for kind, row in detailed.items()}
    details, judged = {}, {}
    for kind, row in detailed.items():
        seed = row.runs[0].seed
        details[kind], judgement = _detail(row.name, seed, predictions[kind])
        if judgement is not None:
            judged[kind] = judgement
    rows = [row for kind in DETAILED for row in findings.rows if row.kind == kind and row.runs]
    by_class, by_size = break_down(rows)
    return Shown(
        data.task,
        tuple(data.classes),
        details,
        by_class,
        by_size,
        read_curves(findings),
        choose(predictions, judged),
    )


def _load(path: Path, data: Images) -> Predictions:
    predictions = Predictions.load(path)
    if len(predictions) != len(data) or predictions.classes != tuple(data.classes):
        raise ValueError(
            f"{path} has predictions for {len(predictions)} images of {len(predictions.classes)} "
            f"classes; expected those of the {len(data)} images of {len(data.classes)} classes "
            "that the report shows. Score the run anew on these images"
        )
    return predictions


def _detail(name: str, seed: int | None, predictions: Predictions) -> tuple[Detail, Judged | None]:
    if predictions.task == "classification":
        calibration = calibrate_classes(predictions)
        return Detail(name, seed, calibration, confusion=confuse(predictions)), None
    evaluator = evaluate(predictions)
    judged = judge(evaluator, predictions)
    detail = Detail(
        name,
        seed,
        calibrate(judged.scores, judged.right),
        error_kinds(evaluator),
        precision_by_recall(judged),
        best_threshold(judged),
    )
    return detail, judged
