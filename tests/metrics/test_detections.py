import pytest
import torch
from torchvision import tv_tensors

from limbeck.metrics import COCOAveragePrecision, VOCAveragePrecision
from tests.metrics.boxes import found, truth

BOX = [0.0, 0.0, 10.0, 10.0]


@pytest.fixture(params=[COCOAveragePrecision, VOCAveragePrecision])
def metric(request):
    return request.param(["cat", "dog"])


def test_images_come_back_as_they_went_in(metric):
    field = next(iter(metric.optional_fields))
    marked = truth(BOX, [1, 2, 3, 4], labels=[1, 2], **{field: torch.tensor([0, 1])})
    metric.update([found(scores=[]), found(BOX, scores=[0.25], labels=[2])], [truth(), marked])
    metric.update([found(BOX, BOX, scores=[0.5, 0.75])], [truth(BOX)])
    (nothing, no_truth), (one, two_truths), (two, one_truth) = metric.images()
    assert nothing["boxes"].shape == no_truth["boxes"].shape == (0, 4)
    assert one["labels"].tolist() == [2]
    assert one["scores"].tolist() == [0.25]
    assert two_truths["boxes"].tolist() == [BOX, [1, 2, 3, 4]]
    assert two_truths[field].tolist() == [0, 1]
    assert two["scores"].tolist() == [0.5, 0.75]
    assert one_truth["labels"].tolist() == [1]
    assert one_truth[field].tolist() == [0]


def test_rows_know_their_image(metric):
    metric.update([found(scores=[]), found(BOX, BOX, scores=[0.5, 0.25])], [truth(BOX), truth()])
    metric.update([found(BOX, scores=[0.75])], [truth(BOX, BOX)])
    predictions, targets = metric.rows()
    assert predictions["image"].tolist() == [1, 1, 2]
    assert predictions["scores"].tolist() == [0.5, 0.25, 0.75]
    assert targets["image"].tolist() == [0, 2, 2]


def test_other_keys_and_box_types_of_datasets_are_taken(metric):
    boxes = tv_tensors.BoundingBoxes([BOX], format="XYXY", canvas_size=(20, 20))
    target = {"boxes": boxes, "labels": torch.tensor([1]), "image_id": 7, "name": "a.jpg"}
    metric.update([found(BOX, scores=[0.5])], [target])
    assert metric.compute()["AP/cat"] == 1


def test_an_empty_box_list_without_columns_is_no_box(metric):
    bare = {"boxes": torch.tensor([]), "labels": torch.tensor([], dtype=torch.int64)}
    metric.update([{**bare, "scores": torch.tensor([])}], [bare])
    metric.update([found(BOX, scores=[0.5])], [truth(BOX)])
    assert metric.compute()["AP/cat"] == 1


def test_reset_forgets(metric):
    metric.update([found(scores=[])], [truth(BOX)])
    metric.reset()
    metric.update([found(BOX, scores=[0.5])], [truth(BOX)])
    assert metric.compute()["AP/cat"] == 1


def test_half_precision_predictions_are_taken(metric):
    prediction = found(BOX, scores=[0.5])
    prediction["boxes"] = prediction["boxes"].bfloat16()
    prediction["scores"] = prediction["scores"].bfloat16()
    metric.update([prediction], [truth(BOX)])
    assert metric.compute()["AP/cat"] == 1


def test_predictions_of_the_unused_slot_0_do_not_count(metric):
    prediction = found(BOX, BOX, scores=[0.9, 0.5], labels=[0, 1])
    metric.update([prediction], [truth(BOX, labels=[1])])
    scores = metric.compute()
    assert scores["AP/cat"] == 1
    assert scores["AP/dog"] <= 0


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        (truth(BOX), truth(BOX), r"predictions\[0\] has no 'scores', only \['boxes', 'labels'\]"),
        (found(BOX, scores=[1, 1]), truth(BOX), r"\['scores'\] has shape \(2,\); expected \(1,\)"),
        (found(scores=[]), truth(BOX, labels=[3]), r"targets\[0\].*holds \[3\]; expected 1 to 2"),
        (found(scores=[]), truth(BOX, labels=[0]), r"holds \[0\].*labels count from 1"),
        (found(BOX, scores=[1], labels=[3]), truth(), r"predictions\[0\].*holds \[3\]"),
        (found(BOX, scores=[1], labels=[-1]), truth(), r"predictions\[0\].*holds \[-1\]"),
    ],
)
def test_bad_input_is_named(metric, prediction, target, message):
    with pytest.raises(ValueError, match=message):
        metric.update([prediction], [target])


def test_a_field_of_another_length_is_named(metric):
    field = next(iter(metric.optional_fields))
    with pytest.raises(ValueError, match=rf"targets\[0\]\['{field}'\] has shape \(2,\)"):
        metric.update([found(scores=[])], [truth(BOX, **{field: torch.ones(2)})])


def test_fields_of_other_metrics_are_ignored(metric):
    metric.update([found(BOX, scores=[0.5])], [truth(BOX, truncation=torch.ones(2))])
    assert metric.compute()["AP/cat"] == 1


def test_unequal_numbers_of_images_are_refused(metric):
    with pytest.raises(ValueError, match="predictions for 1 images and targets for 0"):
        metric.update([found(scores=[])], [])
