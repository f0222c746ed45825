from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.lib.npyio import NpzFile

from limbeck.metrics import VOCAveragePrecision
from limbeck.metrics.voc import average_precision_11_point, average_precision_area
from tests.metrics.boxes import found, truth
from tests.metrics.plain_voc import plain_curve, read_annotations, read_detections

BOX = [0.0, 0.0, 10.0, 10.0]
FAR = [50.0, 50.0, 60.0, 60.0]
EXCLUSIVE = np.array([1, 1, 0, 0])  # a 1-based inclusive box minus this is 0-based, exclusive
INTERPOLATIONS = {"11pt": "11-point", "area": "area"}
NAMES = ("cat", "dog", "bird", "boat", "car")


@pytest.fixture(scope="module")
def golden(shared) -> NpzFile:
    return np.load(shared / "golden/fgfi/voc_ap.npz")


def measured(
    all_gt: np.ndarray, all_det: np.ndarray, names: Sequence[str] = NAMES, **options: object
) -> VOCAveragePrecision:
    metric = VOCAveragePrecision(names, **options)
    for image in np.unique(np.concatenate([all_gt[:, 0], all_det[:, 0]])):
        gt, det = (rows[rows[:, 0] == image] for rows in (all_gt, all_det))
        prediction = {"boxes": det[:, 3:] - EXCLUSIVE, "labels": det[:, 1] + 1, "scores": det[:, 2]}
        target = {"boxes": gt[:, 2:6] - EXCLUSIVE, "labels": gt[:, 1] + 1, "difficult": gt[:, 6]}
        metric.update(
            [{key: torch.tensor(value) for key, value in prediction.items()}],
            [{key: torch.tensor(value) for key, value in target.items()}],
        )
    return metric


@pytest.mark.parametrize("threshold", [0.5, 0.7])
@pytest.mark.parametrize("kind", ["11pt", "area"])
def test_average_precision_is_the_development_kits(golden, threshold, kind):
    options = {"iou_threshold": threshold, "interpolation": INTERPOLATIONS[kind]}
    scores = measured(golden["gt"], golden["det"], **options).compute()
    expected = [golden[f"ap.{threshold}.{name}.{kind}"] for name in NAMES]
    np.testing.assert_allclose([scores[f"AP/{name}"] for name in NAMES], expected, rtol=1e-6)
    np.testing.assert_allclose(scores["mAP"], np.mean(expected), rtol=1e-6)


@pytest.mark.parametrize("threshold", [0.5, 0.7])
@pytest.mark.parametrize("name", NAMES)
def test_curves_are_the_development_kits(golden, threshold, name):
    recall, precision = measured(golden["gt"], golden["det"], iou_threshold=threshold).curves()[
        name
    ]
    np.testing.assert_allclose(recall, golden[f"rec.{threshold}.{name}"], rtol=1e-12)
    np.testing.assert_allclose(precision, golden[f"prec.{threshold}.{name}"], rtol=1e-12)


@pytest.mark.parametrize("case", ["a", "perfect", "exact_thirds", "three_tenths"])
def test_average_of_a_curve_is_the_development_kits(golden, case):
    curve = [torch.from_numpy(golden[f"pr.{case}.{key}"]) for key in ("rec", "prec")]
    ours = [average_precision_11_point(*curve), average_precision_area(*curve)]
    kits = [golden[f"pr.{case}.{key}"] for key in ("ap11", "area")]
    np.testing.assert_allclose(ours, kits, rtol=1e-12)


def score(prediction, target, **options: object) -> float:
    metric = VOCAveragePrecision(["cat", "dog"], **options)
    metric.update([prediction], [target])
    return metric.compute()["AP/cat"].item()


@pytest.mark.parametrize(
    ("prediction", "target", "points", "area"),
    [
        (found(BOX, scores=[0.5]), truth(BOX), 1, 1),
        (found(scores=[]), truth(BOX), 0, 0),
        (found(scores=[]), truth(), 0, 0),
        (found(FAR, BOX, scores=[0.9, 0.8]), truth(BOX), 1 / 2, 1 / 2),
        (found(BOX, scores=[0.9]), truth(BOX, FAR), 6 / 11, 1 / 2),
        # The second box on one target is wrong: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
        (found(BOX, BOX, FAR, scores=[0.9, 0.8, 0.7]), truth(BOX, FAR), 28 / 33, 5 / 6),
    ],
)
def test_hand_made_cases(prediction, target, points, area):
    assert score(prediction, target) == pytest.approx(points)
    assert score(prediction, target, interpolation="area") == pytest.approx(area)


def test_a_match_needs_more_than_the_threshold():
    assert score(found([0, 0, 10, 5], scores=[0.5]), truth(BOX)) == 0
    assert score(found([0, 0, 10, 5.01], scores=[0.5]), truth(BOX)) == pytest.approx(1)


def test_the_best_overlap_takes_the_box_even_if_it_is_taken():
    near = [0.0, 0.0, 10.0, 8.0]
    prediction = found(BOX, [0, 0, 10, 9.5], scores=[0.9, 0.8])
    assert score(prediction, truth(BOX, near), interpolation="area") == pytest.approx(0.5)


def test_difficult_targets_and_their_matches_do_not_count():
    hard = truth(BOX, FAR, difficult=torch.tensor([False, True]))
    prediction = found(FAR, FAR, BOX, scores=[0.9, 0.8, 0.7])
    assert score(prediction, hard) == pytest.approx(1)
    assert score(found(BOX, scores=[0.7]), hard) == pytest.approx(1)
    hard["difficult"][1] = False
    assert score(prediction, hard, interpolation="area") == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_labels_of_other_classes_do_not_match():
    prediction = found(BOX, BOX, scores=[0.9, 0.8], labels=[2, 1])
    assert score(prediction, truth(BOX)) == pytest.approx(1)
    assert score(found(BOX, scores=[0.9], labels=[2]), truth(BOX)) == 0


def test_a_class_without_targets_is_0_by_points_and_undefined_by_area():
    assert score(found(BOX, scores=[0.5]), truth()) == 0
    assert np.isnan(score(found(BOX, scores=[0.5]), truth(), interpolation="area"))


def test_a_real_detectors_curves_are_those_of_the_plain_loop(shared):
    folder = shared / "data/voc_pascal"
    names = (folder / "classes.txt").read_text().split()
    stems = [path.stem for path in sorted((folder / "detections_abs_xyx2y2").glob("*.txt"))]
    gt = read_annotations(folder / "VOCdevkit/VOC2012", stems, names)
    det = read_detections(folder / "detections_abs_xyx2y2", stems)
    curves = measured(gt, det, names).curves()
    assert gt[:, 6].any()
    for label, name in enumerate(names):
        mine, theirs = det[det[:, 1] == label], gt[gt[:, 1] == label]
        if len(theirs):
            np.testing.assert_allclose(curves[name], plain_curve(mine, theirs, 0.5), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_without_any_image_scores_are_0():
    scores = VOCAveragePrecision(["cat", "dog"]).compute()
    assert {k: v.item() for k, v in scores.items()} == {"mAP": 0, "AP/cat": 0, "AP/dog": 0}


def test_an_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match="interpolation is '2007'; expected '11-point'"):
        VOCAveragePrecision(["cat"], interpolation="2007")
