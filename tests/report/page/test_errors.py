import torch

from limbeck.metrics.predictions import Predictions
from limbeck.report.page.detection import evaluate
from limbeck.report.page.errors import error_kinds
from tests.metrics.boxes import found, truth

BOX, MOVED, FAR = [10.0, 10, 30, 30], [14.0, 14, 34, 34], [60.0, 60, 80, 80]


def test_one_error_of_each_of_four_kinds():
    found_boxes = [
        found(BOX, scores=[0.9]),
        found(BOX, scores=[0.8], labels=[2]),
        found(MOVED, FAR, scores=[0.7, 0.6]),
        found(scores=[]),
    ]
    sizes = torch.full((4, 2), 100)
    made = Predictions("detection", ("a", "b"), sizes, found_boxes, [truth(BOX)] * 4)
    counts = {error.name: error.count for error in error_kinds(evaluate(made))}
    assert counts == {
        "wrong class": 1,
        "badly placed": 1,
        "wrong class and badly placed": 0,
        "found twice": 0,
        "nothing is there": 1,
        "missed": 1,
    }
