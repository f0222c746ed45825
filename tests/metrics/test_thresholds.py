"""The score of each class with the greatest F1."""

import pytest
import torch
from torch import Tensor

from limbeck.metrics.thresholds import best_thresholds

BOX = [0.0, 0.0, 10.0, 10.0]
AWAY = [50.0, 50.0, 60.0, 60.0]


def found(*rows: tuple[list[float], float, int]) -> dict[str, Tensor]:
    boxes, scores, labels = zip(*rows, strict=True) if rows else ([], [], [])
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "scores": torch.tensor(scores),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def truth(*labels: int, difficult: bool = False) -> dict[str, Tensor]:
    count = len(labels)
    return {
        "boxes": torch.tensor([BOX] * count).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "difficult": torch.full((count,), difficult),
    }


def test_a_plain_search_finds_the_same() -> None:
    """Of images with one object each: right at .9, .6 and .2, wrong at .7, .5 and .3."""
    right, wrong = (0.9, 0.6, 0.2), (0.7, 0.5, 0.3)
    images = [(found((BOX, score, 1)), truth(1)) for score in right]
    images += [(found((AWAY, score, 1)), truth()) for score in wrong]
    (best,) = best_thresholds(images, ["cat"]).values()

    def f1(least: float) -> float:
        hits, misses = (sum(score >= least for score in scores) for scores in (right, wrong))
        return 2 * hits / (hits + misses + len(right))

    assert best.score == pytest.approx(max(sorted(right, reverse=True), key=f1))
    assert best.f1 == pytest.approx(max(map(f1, right)))
    assert (best.precision, best.recall, best.objects) == pytest.approx((2 / 3, 2 / 3, 3))


def test_classes_are_apart_and_those_without_objects_have_none() -> None:
    images = [(found((BOX, 0.8, 1), (BOX, 0.4, 2), (AWAY, 0.9, 3)), truth(1, 2))]
    best = best_thresholds(images, ["cat", "dog", "owl"])
    assert {name: each.score for name, each in best.items()} == pytest.approx(
        {"cat": 0.8, "dog": 0.4}
    )


def test_a_box_in_a_crowd_of_its_class_is_not_wrong() -> None:
    """A crowd is so large that no box overlaps it by a half of both."""
    whole = truth(1) | {
        "boxes": torch.tensor([BOX, [40.0, 40.0, 100.0, 100.0]]),
        "labels": torch.tensor([1, 1]),
        "difficult": torch.tensor([False, False]),
        "iscrowd": torch.tensor([0, 1]),
    }
    (best,) = best_thresholds([(found((AWAY, 0.9, 1), (BOX, 0.5, 1)), whole)], ["cat"]).values()
    assert (best.score, best.f1, best.ap) == pytest.approx((0.5, 1.0, 1.0))
    outside = [0.0, 30.0, 10.0, 45.0]  # a third of it lies in the crowd's rows, none in its columns
    images = [(found((outside, 0.9, 1), (BOX, 0.5, 1)), whole)]
    assert best_thresholds(images, ["cat"])["cat"].precision == pytest.approx(0.5)


def test_boxes_of_one_score_are_taken_together() -> None:
    images = [(found((BOX, 0.5, 1), (AWAY, 0.5, 1)), truth(1))]
    (best,) = best_thresholds(images, ["cat"]).values()
    assert best.f1 == pytest.approx(2 / 3)


def test_difficult_may_be_a_number() -> None:
    target = truth(1)
    target["difficult"] = torch.zeros(len(target["labels"]), dtype=torch.int64)
    as_bools = truth(1) | {"difficult": torch.zeros(len(target["labels"]), dtype=torch.bool)}
    predicted = found((BOX, 0.9, 1), (AWAY, 0.5, 1))
    scores = [best_thresholds([(predicted, t)], ["cat"])["cat"].score for t in (target, as_bools)]
    assert scores == [pytest.approx(0.9)] * 2


def test_difficult_objects_do_not_count_and_a_class_may_never_be_right() -> None:
    images = [
        (found((BOX, 0.9, 1)), truth(1, difficult=True)),
        (found((AWAY, 0.8, 1)), truth(1)),
    ]
    (best,) = best_thresholds(images, ["cat"]).values()
    assert (best.score, best.f1, best.objects) == (None, 0.0, 1)
