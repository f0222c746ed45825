import contextlib
import io
import json

import pytest
import torch
from faster_coco_eval import COCO, COCOeval_faster
from torch import Tensor
from torchvision.ops import box_convert

from limbeck.metrics import COCOAveragePrecision
from tests.metrics.boxes import found, truth

BOX = [0.0, 0.0, 10.0, 10.0]
FAR = [50.0, 50.0, 60.0, 60.0]


def score(prediction, target, classes=None) -> dict[str, float]:
    metric = COCOAveragePrecision(classes)
    metric.update([prediction], [target])
    return {name: value.item() for name, value in metric.compute().items()}


def test_every_object_found_exactly_is_one():
    small, medium, large = [0, 0, 20, 20], [100, 0, 150, 50], [0, 100, 100, 200]
    scores = score(found(small, medium, large, scores=[0.9, 0.8, 0.7]), truth(small, medium, large))
    assert scores == pytest.approx(dict.fromkeys(scores, 1.0))
    assert list(scores) == ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"]


def test_an_iou_of_exactly_six_tenths_passes_three_of_ten_thresholds():
    scores = score(found([0, 0, 10, 6], scores=[0.5]), truth(BOX))
    assert scores["AP"] == pytest.approx(0.3)
    assert scores["AP50"] == pytest.approx(1)
    assert scores["AP75"] == 0


def test_a_better_scored_mistake_halves_precision():
    assert score(found(FAR, BOX, scores=[0.9, 0.8]), truth(BOX))["AP"] == pytest.approx(0.5)
    assert score(found(FAR, BOX, scores=[0.7, 0.8]), truth(BOX))["AP"] == pytest.approx(1)


def test_half_the_objects_found_is_51_of_101_recall_points():
    assert score(found(BOX, scores=[0.5]), truth(BOX, FAR))["AP"] == pytest.approx(51 / 101)


def test_boxes_in_a_crowd_are_neither_right_nor_wrong():
    crowd = truth(BOX, [40, 40, 100, 100], iscrowd=torch.tensor([0, 1]))
    inside = [[50.0, 50.0, 60.0, 60.0], [70.0, 70.0, 80.0, 80.0]]
    prediction = found(*inside, BOX, scores=[0.9, 0.8, 0.7])
    assert score(prediction, crowd)["AP"] == pytest.approx(1)
    crowd["iscrowd"][1] = 0
    assert score(prediction, crowd)["AP"] < 0.2


def test_given_area_decides_the_size():
    given = score(found(BOX, scores=[0.5]), truth(BOX, area=torch.tensor([2000.0])))
    assert (given["AP_small"], given["AP_medium"]) == (-1, 1)
    for target in (truth(BOX), truth(BOX, area=torch.tensor([0.0]))):
        from_box = score(found(BOX, scores=[0.5]), target)
        assert (from_box["AP_small"], from_box["AP_medium"]) == (1, -1)


def test_only_the_hundred_best_boxes_of_an_image_count():
    wrong = found(*[FAR] * 99, BOX, scores=[0.9] * 99 + [0.5])
    assert score(wrong, truth(BOX))["AP"] == pytest.approx(0.01)
    wrong = found(*[FAR] * 100, BOX, scores=[0.9] * 100 + [0.5])
    assert score(wrong, truth(BOX))["AP"] == 0


def test_classes_are_named_and_those_without_targets_left_out_of_the_mean():
    prediction = found(BOX, BOX, FAR, scores=[0.9, 0.8, 0.7], labels=[1, 3, 4])
    scores = score(prediction, truth(BOX, FAR, FAR, labels=[1, 2, 4]), ["a", "b", "c", "d", "e"])
    by_class = {name: scores[f"AP/{name}"] for name in "abcde"}
    assert by_class == pytest.approx({"a": 1, "b": 0, "c": -1, "d": 1, "e": -1})
    assert scores["AP"] == pytest.approx(2 / 3)


def test_one_class_keeps_its_name():
    assert score(found(BOX, scores=[0.5]), truth(BOX), ["cat"])["AP/cat"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        (found(scores=[]), truth(BOX), 0),  # no detection
        (found(BOX, scores=[0.5]), truth(), -1),  # no ground truth
        (found(scores=[]), truth(), -1),  # an image without boxes
        (found(BOX, scores=[0.5]), truth(BOX, iscrowd=torch.tensor([1])), -1),  # crowd only
    ],
)
def test_where_there_is_nothing_to_find_scores_are_minus_one(prediction, target, expected):
    scores = score(prediction, target, ["cat"])
    assert scores["AP"] == scores["AP50"] == scores["AP/cat"] == expected


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_without_any_image_every_name_is_there():
    scores = COCOAveragePrecision(["cat", "dog"]).compute()
    assert {name: value.item() for name, value in scores.items()} == dict.fromkeys(
        ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AP/cat", "AP/dog"], -1.0
    )


def test_empty_images_between_others_change_nothing():
    metric = COCOAveragePrecision()
    for _ in range(3):
        metric.update([found(scores=[])], [truth()])
    metric.update([found(FAR, BOX, scores=[0.9, 0.8])], [truth(BOX)])
    metric.update([found(scores=[])], [truth()])
    assert metric.compute()["AP"] == pytest.approx(0.5)


def noisy(boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Detections as of a mediocre detector: moved, partly missed, partly of another class."""
    kept = torch.rand(len(boxes)) < 0.8
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    moved = boxes + 0.08 * sides * torch.randn_like(boxes)
    other = torch.where(torch.rand(len(boxes)) < 0.2, torch.randint(1, 91, labels.shape), labels)
    return {"boxes": moved[kept], "labels": other[kept], "scores": torch.rand(len(boxes))[kept]}


def test_real_annotations_score_as_the_evaluator_reads_them_from_its_own_file(shared):
    path = shared / "data/coco/annotations/instances_val.json"
    content = json.loads(path.read_text())
    metric, results = COCOAveragePrecision(), []
    for image in content["images"]:
        notes = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        boxes = torch.tensor([a["bbox"] for a in notes]).reshape(-1, 4)
        labels = torch.tensor([a["category_id"] for a in notes], dtype=torch.int64)
        target = {"boxes": box_convert(boxes, "xywh", "xyxy"), "labels": labels}
        prediction = noisy(**target)
        for key in ("iscrowd", "area"):
            target[key] = torch.tensor([a[key] for a in notes])
        metric.update([prediction], [target])
        xywh = box_convert(prediction["boxes"], "xyxy", "xywh").tolist()
        results += [
            {"image_id": image["id"], "bbox": box, "category_id": label, "score": value}
            for box, label, value in zip(
                xywh, prediction["labels"].tolist(), prediction["scores"].tolist(), strict=True
            )
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        official = COCO(str(path))
        evaluation = COCOeval_faster(official, official.loadRes(results), "bbox")
        evaluation.run()
    scores = metric.compute()
    assert 0.1 < scores["AP"] < 0.9
    assert [value.item() for value in scores.values()] == pytest.approx(
        list(evaluation.stats[:6]), abs=1e-6
    )
