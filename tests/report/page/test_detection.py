import pytest
import torch

from limbeck.metrics import COCOAveragePrecision
from limbeck.metrics.predictions import Predictions
from limbeck.report.page.detection import evaluate, judge
from tests.metrics.boxes import found, truth

BOX, FAR = [10.0, 10, 30, 30], [60.0, 60, 80, 80]


def predictions(found_boxes: list, true_boxes: list) -> Predictions:
    sizes = torch.full((len(found_boxes), 2), 100)
    return Predictions("detection", ("a", "b"), sizes, found_boxes, true_boxes)


def test_what_is_right_and_the_score_of_each_image():
    made = predictions(
        [
            found(BOX, FAR, scores=[0.9, 0.3]),
            found(BOX, scores=[0.8], labels=[2]),
            found(scores=[]),
            found(scores=[]),
        ],
        [truth(BOX), truth(BOX), truth(BOX), truth()],
    )
    judged = judge(evaluate(made), made)
    assert dict(zip(judged.scores.round(1).tolist(), judged.right.tolist(), strict=True)) == {
        0.9: True,
        0.3: False,
        0.8: False,
    }
    assert judged.objects == 3
    assert judged.by_image.round(3).tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("field", ["iscrowd", "difficult"])
def test_objects_that_nobody_has_to_find(field):
    made = predictions([found(BOX, scores=[0.9])], [truth(BOX, **{field: torch.tensor([1])})])
    judged = judge(evaluate(made), made)
    assert judged.objects == 0
    assert len(judged.scores) == 0


def test_average_precision_is_that_of_the_metric(detection):
    row = detection.findings.rows[2]
    made = Predictions.load(row.runs[0].predictions)
    precision = evaluate(made).eval["precision"][:, :, :, 0, -1]
    expected = made.measured(COCOAveragePrecision()).compute()["AP"].item()
    assert precision[precision > -1].mean() == pytest.approx(expected, abs=1e-6)


def test_a_model_that_finds_nothing():
    made = predictions([found(scores=[])], [truth(BOX)])
    judged = judge(evaluate(made), made)
    assert judged.objects == 1
    assert judged.by_image.tolist() == [0]
