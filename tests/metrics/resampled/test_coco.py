"""COCO's matching in cases that test_resampled.py, which has random boxes, seldom meets."""

import numpy as np
import pytest
import torch

from limbeck.metrics import COCOAveragePrecision
from limbeck.metrics.predictions import Predictions
from limbeck.metrics.resampled import resampled
from limbeck.metrics.resampled.repeated import Repeated
from tests.metrics.boxes import found, truth
from tests.metrics.resampled.random_predictions import CLASSES, ROUNDING


def test_of_two_objects_that_overlap_as_much_coco_takes_the_last() -> None:
    left, middle, right = ([x, 0.0, x + 10, 10.0] for x in (0.0, 2.0, 4.0))
    predictions = Predictions(
        "detection",
        CLASSES,
        torch.full((1, 2), 20),
        [found(middle, left, scores=[0.9, 0.8])],  # the left object is left for the second box
        [truth(left, right)],
    )
    once = np.ones((1, 1), dtype=np.int64)
    metric = COCOAveragePrecision(CLASSES)
    (expected,) = Repeated(metric, predictions).headlines(once)
    assert resampled(metric, predictions).headlines(once) == pytest.approx(expected, abs=ROUNDING)
    assert expected > 0.4


def test_boxes_beyond_the_largest_area_do_not_count_for_coco() -> None:
    box, huge = [0.0, 0, 10, 10], [0.0, 0, 2e5, 2e5]
    predictions = Predictions(
        "detection",
        CLASSES,
        torch.full((1, 2), 20),
        [found(huge, box, scores=[0.9, 0.8])],
        [truth(box)],
    )
    once = np.ones((1, 1), dtype=np.int64)
    metric = COCOAveragePrecision(CLASSES)
    assert resampled(metric, predictions).headlines(once) == pytest.approx(1)
    assert Repeated(metric, predictions).headlines(once) == pytest.approx(1)


def test_coco_counts_100_boxes_of_a_class_in_an_image() -> None:
    boxes = [[float(x), 0.0, x + 10.0, 10.0] for x in range(0, 1500, 10)]
    scores = [0.2 if x % 2 else 0.8 for x in range(150)]
    predictions = Predictions(
        "detection",
        CLASSES,
        torch.full((2, 2), 2000),
        [found(*boxes, scores=scores), found(boxes[0], scores=[0.5])],
        [truth(*boxes), truth(boxes[0])],
    )
    drawn = np.array([[1, 1], [1, 0], [3, 2]])
    metric = COCOAveragePrecision(CLASSES)
    expected = Repeated(metric, predictions).headlines(drawn)
    np.testing.assert_allclose(
        resampled(metric, predictions).headlines(drawn), expected, atol=ROUNDING
    )
    assert expected[1] == pytest.approx(67 / 101)  # recalls up to 100 of 150
