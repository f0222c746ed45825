"""Precision by recall, the best threshold, and whether a score says how often it is right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from hotcoco.metrics import calibration_curve, calibration_error
from numpy.typing import NDArray

from limbeck.metrics.predictions import Predictions
from limbeck.report.page.detection import Floats, Judged

BINS = 10


@dataclass(frozen=True)
class Bin:
    """The predictions whose scores lie within one tenth.

    Attributes:
        confidence: The mean of their scores.
        right: The share of them that is right.
        count: The number of them.
    """

    confidence: float
    right: float
    count: int


@dataclass(frozen=True)
class Calibration:
    """How well scores say how often they are right.

    Attributes:
        error: The expected calibration error: the mean distance between score and share, over ten
            bins of equal width, weighted by the numbers of predictions.
        bins: The bins that have predictions.
    """

    error: float
    bins: Sequence[Bin]


@dataclass(frozen=True)
class Threshold:
    """The lowest score that is kept where F1 over all classes is at its best.

    Attributes:
        score: The threshold.
        precision: The share of the kept detections that is right.
        recall: The share of the objects that is found.
        f1: The harmonic mean of both.
    """

    score: float
    precision: float
    recall: float
    f1: float


def calibrate(scores: Floats, right: NDArray[np.bool_]) -> Calibration:
    """Compare scores with how often they are right.

    Args:
        scores: The scores from 0 to 1, (D,).
        right: Whether each prediction is right, bool (D,).

    Returns:
        The calibration.
    """
    bins = [
        Bin(round(b["avg_confidence"], 6), round(b["avg_accuracy"], 6), b["count"])
        for b in calibration_curve(scores, right, BINS)
        if b["count"]
    ]
    error = calibration_error(scores, right, BINS)[0] if len(scores) else 0.0
    return Calibration(round(error, 6), bins)


def calibrate_classes(predictions: Predictions) -> Calibration:
    """Compare the probability of a classifier's best class with how often that class is right."""
    probabilities = torch.stack(list(predictions.found)).double().softmax(dim=1)
    best, label = probabilities.max(dim=1)
    right = label == torch.stack(list(predictions.truth))
    return calibrate(best.numpy(), right.numpy())


def precision_by_recall(judged: Judged) -> list[float]:
    """The best precision at recalls 0, .01, ... of all classes together, as far as recall goes."""
    if not judged.right.any():
        return []
    _, found, kept = _kept(judged)
    precision = np.maximum.accumulate((found / kept)[::-1])[::-1]  # at this recall or a higher one
    recalls = np.arange(101) * judged.objects / 100
    places = np.searchsorted(found, recalls - 1e-9)
    return np.round(precision[places[places < len(found)]], 6).tolist()  # type: ignore[no-any-return]


def best_threshold(judged: Judged) -> Threshold | None:
    """Find the threshold of the best F1 at an IoU of 0.5, or None where nothing is ever right."""
    if not judged.right.any():
        return None
    scores, found, kept = _kept(judged)
    f1 = 2 * found / (kept + judged.objects)
    last = np.append(scores[1:] != scores[:-1], True)  # equal scores are kept together
    best = int(np.argmax(np.where(last, f1, -1)))
    numbers = (scores[best], found[best] / kept[best], found[best] / judged.objects, f1[best])
    return Threshold(*(round(float(number), 6) for number in numbers))


def _kept(judged: Judged) -> tuple[Floats, Floats, Floats]:
    """By falling threshold: the score, and how many from it on are right, and are there at all."""
    order = np.argsort(-judged.scores, kind="stable")
    found = np.cumsum(judged.right[order]).astype(np.float64)
    return judged.scores[order], found, np.arange(1.0, len(order) + 1)
