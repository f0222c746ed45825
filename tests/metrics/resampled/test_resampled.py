"""Headlines of draws are what a metric computes of a dataset that has images that often."""

import numpy as np
import pytest
import torch
from numpy.random import Generator
from torch import Tensor
from torchmetrics import MeanMetric, Metric

from limbeck.metrics import (
    COCOAveragePrecision,
    KITTIAveragePrecision,
    TopKAccuracy,
    VOCAveragePrecision,
    WIDERFaceAveragePrecision,
)
from limbeck.metrics.predictions import Predictions
from limbeck.metrics.resampled import base, kitti, resampled
from limbeck.metrics.resampled.repeated import Repeated
from tests.metrics.boxes import found, truth
from tests.metrics.resampled.random_predictions import (
    CLASSES,
    IMAGES,
    ROUNDING,
    detections,
    untied,
    weights,
)


def coco_fields(rng: Generator, count: int) -> dict[str, Tensor]:
    areas = rng.choice([0, 100, 2e10], count, p=[0.5, 0.4, 0.1])
    return {"iscrowd": flags(rng, count, 0.2).long(), "area": torch.from_numpy(areas)}


def voc_fields(rng: Generator, count: int) -> dict[str, Tensor]:
    return {"difficult": flags(rng, count, 0.2)}


def kitti_fields(rng: Generator, count: int) -> dict[str, Tensor]:
    return {
        "iscrowd": flags(rng, count, 0.1).long(),
        "truncation": torch.from_numpy(rng.integers(0, 40, count) / 100),
        "occlusion": torch.from_numpy(
            rng.choice([-1, 0, 1, 2, 3], count, p=[0.1, 0.6, 0.1, 0.1, 0.1])
        ),
    }


def face_fields(rng: Generator, count: int) -> dict[str, Tensor]:
    hard = flags(rng, count, 0.9)
    medium = hard & flags(rng, count, 0.7)
    return {"hard": hard, "medium": medium, "easy": medium & flags(rng, count, 0.7)}


def flags(rng: Generator, count: int, share: float) -> Tensor:
    return torch.from_numpy(rng.random(count) < share)


def voc(interpolation: str) -> Metric:
    return VOCAveragePrecision(CLASSES, interpolation=interpolation)


CASES = {
    "coco": (coco_fields, lambda: COCOAveragePrecision(CLASSES)),
    "voc 11 points": (voc_fields, lambda: voc("11-point")),
    "voc area": (voc_fields, lambda: voc("area")),
    "kitti": (kitti_fields, lambda: KITTIAveragePrecision(CLASSES[1:2])),
    "kitti 11 points": (kitti_fields, lambda: KITTIAveragePrecision(CLASSES[:2], points=11)),
    "kitti 2012": (kitti_fields, lambda: KITTIAveragePrecision(CLASSES[:2], rules="2012")),
    "wider face": (face_fields, WIDERFaceAveragePrecision),
}
each_case = pytest.mark.parametrize("case", CASES)


def example(case: str, seed: int, **options: bool) -> tuple[Predictions, Metric, np.ndarray]:
    fields, make = CASES[case]
    rng = np.random.default_rng(seed)
    metric = make()
    predictions = detections(rng, fields, len(metric.classes), **options)
    return predictions, metric, weights(rng)


@each_case
@pytest.mark.parametrize("seed", range(4))
def test_draws_are_datasets_with_copies(case: str, seed: int) -> None:
    predictions, metric, drawn = example(case, seed)
    fast = resampled(metric, predictions)
    assert not isinstance(fast, Repeated)
    expected = Repeated(metric, predictions).headlines(drawn)
    np.testing.assert_allclose(fast.headlines(drawn), expected, atol=ROUNDING, rtol=0)
    assert len(np.unique(expected)) > 3


@pytest.mark.parametrize("case", ["coco", "voc 11 points", "voc area"])
@pytest.mark.parametrize("seed", range(4))
def test_of_equal_scores_the_earlier_box_is_first_and_copies_of_a_box_are_together(
    case: str, seed: int
) -> None:
    predictions, metric, drawn = example(case, seed, ties=True)
    fast = resampled(metric, predictions).headlines(drawn)
    expected = Repeated(metric, untied(predictions)).headlines(drawn)
    np.testing.assert_allclose(fast, expected, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("case", ["kitti", "kitti 2012", "wider face"])
def test_the_order_of_equal_scores_does_not_matter_where_thresholds_are_scores(case: str) -> None:
    predictions, metric, drawn = example(case, 0, ties=True)
    fast = resampled(metric, predictions).headlines(drawn)
    expected = Repeated(metric, predictions).headlines(drawn)
    np.testing.assert_allclose(fast, expected, atol=ROUNDING, rtol=0)


@each_case
def test_weights_of_1_give_the_headline(case: str) -> None:
    predictions, metric, _ = example(case, 7, ties=True)
    (headline,) = resampled(metric, predictions).headlines(np.ones((1, IMAGES), dtype=np.int64))
    assert metric.update_count == 0
    expected = predictions.measured(metric).compute()[metric.headline]
    assert headline == pytest.approx(float(expected), abs=ROUNDING)


@each_case
def test_chunks_change_nothing(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, metric, drawn = example(case, 1)
    expected = resampled(metric, predictions).headlines(drawn)
    monkeypatch.setattr(base, "CHUNK", 1)
    monkeypatch.setattr(kitti, "MOST_CELLS", 1)
    np.testing.assert_allclose(
        resampled(metric, predictions).headlines(drawn), expected, rtol=1e-12
    )


@pytest.mark.parametrize("classes", [3, 10])
def test_top_1(classes: int) -> None:
    rng = np.random.default_rng(0)
    predictions = classified(rng, classes)
    drawn = weights(rng)
    fast = resampled(TopKAccuracy(classes), predictions)
    assert not isinstance(fast, Repeated)
    expected = Repeated(TopKAccuracy(classes), predictions).headlines(drawn)
    np.testing.assert_allclose(fast.headlines(drawn), expected, atol=ROUNDING, rtol=0)


class Best(MeanMetric):
    """The mean of the best logit: one number, which is named after the class."""

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        super().update(predictions.amax(dim=1))


def test_a_metric_of_the_users_own_sees_images_as_often_as_they_weigh() -> None:
    rng = np.random.default_rng(0)
    predictions = classified(rng, 3)
    drawn = weights(rng)
    own = predictions.measured(Best())  # what it has seen does not count
    best = torch.stack(predictions.found).amax(dim=1).numpy()
    np.testing.assert_allclose(
        resampled(own, predictions).headlines(drawn), drawn @ best / IMAGES, rtol=1e-6
    )
    assert own.update_count == 1


class Halved(TopKAccuracy):
    def compute(self) -> dict[str, Tensor]:
        return {name: score / 2 for name, score in super().compute().items()}


def test_a_subclass_may_compute_something_else() -> None:
    predictions = classified(np.random.default_rng(0), 3)
    once = np.ones((1, IMAGES), dtype=np.int64)
    expected = resampled(TopKAccuracy(3), predictions).headlines(once) / 2
    np.testing.assert_allclose(resampled(Halved(3), predictions).headlines(once), expected)


def classified(rng: Generator, classes: int) -> Predictions:
    logits = list(torch.from_numpy(rng.normal(size=(IMAGES, classes))).float())
    labels = list(torch.from_numpy(rng.integers(0, classes, IMAGES)))
    sizes = torch.ones(IMAGES, 2, dtype=torch.long)
    return Predictions("classification", tuple(map(str, range(classes))), sizes, logits, labels)


def test_weights_have_to_be_those_of_the_images() -> None:
    predictions, metric, drawn = example("coco", 0)
    with pytest.raises(ValueError, match=r"shape \(7, 35\); expected \(draws, 36\)"):
        resampled(metric, predictions).headlines(drawn[:, :-1])


def two_images() -> Predictions:
    """One image with a cat that is found, and one with a car that is not."""
    box = [0.0, 0, 10, 10]
    objects = [truth(box, labels=[2]), truth(box, labels=[1])]
    boxes = [found(box, scores=[0.9], labels=[2]), found(scores=[])]
    plain = {"difficult": torch.zeros(1, dtype=torch.bool), "iscrowd": torch.zeros(1)}
    return Predictions(
        "detection", CLASSES, torch.full((2, 2), 10), boxes, [item | plain for item in objects]
    )


def test_classes_that_a_draw_lacks() -> None:
    drawn = np.array([[1, 1], [2, 0], [0, 2], [0, 0]])
    coco = resampled(COCOAveragePrecision(CLASSES), two_images()).headlines(drawn)
    np.testing.assert_allclose(coco, [0.5, 1, 0, -1])  # COCO leaves classes out of the mean,
    points = resampled(voc("11-point"), two_images()).headlines(drawn)
    np.testing.assert_allclose(points, [1 / 3, 1 / 3, 0, 0])  # of which VOC's kit knows nothing
    area = resampled(voc("area"), with_a_stray_face()).headlines(drawn)
    np.testing.assert_allclose(area, [np.nan, np.nan, 0, 0])


def with_a_stray_face() -> Predictions:
    """A box of a class that has no object, in the first image."""
    predictions = two_images()
    boxes = found([0.0, 0, 9, 9], [0.0, 0, 10, 10], scores=[0.8, 0.9], labels=[3, 2])
    return Predictions(
        "detection", CLASSES, predictions.sizes, [boxes, predictions.found[1]], predictions.truth
    )
