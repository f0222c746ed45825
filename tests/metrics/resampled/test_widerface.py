"""What depends on a whole draw of WIDER FACE's images; for the rest, see test_resampled.py."""

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.metrics import WIDERFaceAveragePrecision
from limbeck.metrics.predictions import Predictions
from limbeck.metrics.resampled import resampled
from limbeck.metrics.resampled.repeated import Repeated
from tests.metrics.boxes import found, truth
from tests.metrics.resampled.random_predictions import ROUNDING

FACE, ELSEWHERE = [0.0, 0, 10, 10], [50.0, 50, 60, 60]


def faces(boxes: list[dict[str, Tensor]], hard: list[bool]) -> Predictions:
    """Images of one face each, which may count as hard, and counts as easy and medium."""
    yes = torch.ones(1, dtype=torch.bool)
    objects = [truth(FACE, easy=yes, medium=yes, hard=torch.tensor([counts])) for counts in hard]
    sizes = torch.full((len(boxes), 2), 100)
    return Predictions("detection", ("face",), sizes, boxes, objects)


def test_scores_are_stretched_over_the_images_of_a_draw() -> None:
    # Two scores which the outliers of the other image bring between the same two thresholds.
    close = found(FACE, ELSEWHERE, scores=[0.50001, 0.5])
    far = found(FACE, ELSEWHERE, scores=[1.0, 0.0])
    predictions, metric = faces([close, far], [True, True]), WIDERFaceAveragePrecision()
    drawn = np.array([[1, 0], [1, 1], [0, 1]])
    headlines = resampled(metric, predictions).headlines(drawn)
    expected = Repeated(metric, predictions).headlines(drawn)
    np.testing.assert_allclose(headlines, expected, atol=ROUNDING)
    far_alone = resampled(metric, faces([far], [True])).headlines(np.ones((1, 1), dtype=np.int64))
    assert headlines[2] == far_alone == pytest.approx(1)
    assert headlines[0] == pytest.approx(1)
    assert headlines[1] < 0.9


def test_a_draw_without_faces_that_count_has_no_headline() -> None:
    box = found(FACE, scores=[0.9])
    predictions, metric = faces([box, box], [True, False]), WIDERFaceAveragePrecision()
    drawn = np.array([[1, 1], [0, 2], [2, 0]])
    np.testing.assert_allclose(resampled(metric, predictions).headlines(drawn), [1, np.nan, 1])
    np.testing.assert_allclose(Repeated(metric, predictions).headlines(drawn), [1, np.nan, 1])
