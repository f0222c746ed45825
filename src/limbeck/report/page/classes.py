"""A score by class, and by the size of objects, of several rows, averaged over all their seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_accuracy

from limbeck.metrics.predictions import Predictions
from limbeck.report.findings import Compared
from limbeck.report.page.detection import SIZES, Floats, areas, evaluate

SIZE_NAMES = ("small (below 32² px)", "medium", "large (above 96² px)")
_BOUNDS = (32.0**2, 96.0**2)


@dataclass(frozen=True)
class Breakdown:
    """A score of several rows, taken apart.

    Attributes:
        score: The name of the score.
        names: What it is taken apart by: the names of classes, or of sizes.
        counts: The number of objects or images of each name.
        values: The mean over seeds of each row, by the row's name; None where nothing counts.
    """

    score: str
    names: Sequence[str]
    counts: Sequence[int]
    values: Mapping[str, Sequence[float | None]]


def break_down(rows: Sequence[Compared]) -> tuple[Breakdown, Breakdown | None]:
    """Take the rows' scores apart.

    Args:
        rows: The rows, each with at least one run.

    Returns:
        Average precision or accuracy by class, and average precision by the size of objects, which
        classification does not have.
    """
    means = {row.name: _means(row) for row in rows}
    first = Predictions.load(rows[0].runs[0].predictions)
    detection = first.task == "detection"
    by_class, by_size = _counts(first)
    classes = Breakdown(
        "average precision (COCO)" if detection else "accuracy",
        first.classes,
        by_class,
        {name: _known(mean[: len(first.classes)]) for name, mean in means.items()},
    )
    if not detection:
        return classes, None
    sizes = {name: _known(mean[len(first.classes) :]) for name, mean in means.items()}
    return classes, Breakdown(classes.score, SIZE_NAMES, by_size, sizes)


def _means(row: Compared) -> Floats:
    """The scores of all classes, then of all sizes, averaged over the runs; NaN is left out."""
    runs = [_scores(Predictions.load(run.predictions)) for run in row.runs]
    return np.ma.masked_invalid(runs).mean(axis=0).filled(np.nan)  # type: ignore[no-any-return]


def _scores(predictions: Predictions) -> Floats:
    if predictions.task == "classification":
        return _accuracies(predictions)
    evaluator = evaluate(predictions)
    assert evaluator.eval is not None
    # IoU x recall x class x size (all, small, medium, large) x most detections of an image
    precision = evaluator.eval["precision"][..., -1]
    counted = np.ma.masked_equal(precision, -1)
    by_class, by_size = counted[..., 0].mean(axis=(0, 1)), counted.mean(axis=(0, 1, 2))[1:]
    return np.concatenate([by_class.filled(np.nan), by_size.filled(np.nan)])


def _accuracies(predictions: Predictions) -> Floats:
    """The share of each class's images that are right, NaN where it has none."""
    logits, truth = torch.stack(list(predictions.found)), torch.stack(list(predictions.truth))
    count = len(predictions.classes)
    right = multiclass_accuracy(logits, truth, count, average="none")
    seen = truth.bincount(minlength=count) > 0
    return np.where(seen.numpy(), right.numpy(), np.nan)


def _counts(predictions: Predictions) -> tuple[list[int], list[int]]:
    """The numbers of objects or images by class, and of objects by size."""
    count = len(predictions.classes)
    if predictions.task == "classification":
        return torch.stack(list(predictions.truth)).bincount(minlength=count).tolist(), []
    labels = torch.cat([target["labels"] for target in predictions.truth])
    sizes = torch.bucketize(
        torch.cat([areas(target) for target in predictions.truth]), torch.tensor(_BOUNDS)
    )
    by_class = labels.bincount(minlength=count + 1)[1:]
    return by_class.tolist(), sizes.bincount(minlength=len(SIZES)).tolist()


def _known(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 6) for value in values]
