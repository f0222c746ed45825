import numpy as np
import pytest
import torch

from limbeck.metrics.predictions import Predictions
from limbeck.report.page.calibration import (
    best_threshold,
    calibrate,
    calibrate_classes,
    precision_by_recall,
)
from limbeck.report.page.detection import Judged


def judged(scores: list[float], right: list[bool], objects: int) -> Judged:
    return Judged(np.array(scores), np.array(right, dtype=bool), objects, np.zeros(1))


def test_scores_that_are_too_sure():
    found = calibrate(np.array([0.95, 0.95, 0.35, 0.35]), np.array([True, False, True, False]))
    assert [(b.confidence, b.right, b.count) for b in found.bins] == [
        (0.35, 0.5, 2),
        (0.95, 0.5, 2),
    ]
    assert found.error == pytest.approx((0.15 + 0.45) / 2)


def test_nothing_was_found():
    assert calibrate(np.zeros(0), np.zeros(0, dtype=bool)).bins == []
    assert best_threshold(judged([], [], 3)) is None
    assert precision_by_recall(judged([], [], 3)) == []


def test_classes_by_their_probability():
    logits = torch.tensor([[4.0, 0.0], [0.0, 4.0]])
    sizes = torch.ones(2, 2, dtype=torch.long)
    made = Predictions("classification", ("a", "b"), sizes, logits, torch.tensor([0, 0]))
    (only,) = calibrate_classes(made).bins
    assert only.right == 0.5
    assert only.confidence == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-6)


def test_the_threshold_of_the_best_f1_keeps_equal_scores_together():
    best = best_threshold(judged([0.9, 0.5, 0.5, 0.1], [True, True, False, False], 2))
    assert best is not None
    # From 0.5 on, three are kept: F1 is 2 * 2 / (3 + 2). Between the equal ones it would be 1.
    assert (best.score, best.f1) == (0.5, 0.8)
    assert (best.precision, best.recall) == (pytest.approx(2 / 3, abs=1e-6), 1.0)


def test_precision_ends_where_recall_does():
    found = precision_by_recall(judged([0.9, 0.8, 0.7], [False, True, True], 4))
    assert len(found) == 51  # half of the objects are found
    assert found[0] == found[50] == pytest.approx(2 / 3, abs=1e-6)
