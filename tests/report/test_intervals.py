"""Intervals cover a known difference as often as they say, and verdicts follow the printed rule."""

import numpy as np
import pytest
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from limbeck.metrics.predictions import Predictions
from limbeck.metrics.resampled.base import Resampled, Weights
from limbeck.metrics.resampled.classification import ResampledTop1
from limbeck.metrics.resampled.curves import Judged
from limbeck.metrics.resampled.voc import ResampledVOC
from limbeck.report.intervals import (
    Difference,
    Sampled,
    paired_difference,
    rule,
    sampled,
    undertrained,
    verdict,
)

EXPERIMENTS = 1000


def drawn(headline: float, around: NDArray[np.float64] | float = 0.0) -> Sampled:
    return Sampled(headline, headline + around * np.ones(1000), images=10, seed=0)


class WithoutDuplicates(Resampled):
    """The bootstrap as it should not be: what was drawn twice counts once."""

    rows = 0

    def __init__(self, kept: Resampled) -> None:
        self.kept, self.images = kept, kept.images

    def _headlines(self, weights: Weights) -> NDArray[np.float64]:
        return self.kept.headlines((weights.T > 0).astype(np.int64))


def classifier(right: NDArray[np.bool_]) -> Resampled:
    logits, labels = torch.eye(2)[right.astype(int)], torch.ones(len(right), dtype=torch.long)
    sizes = torch.ones(len(right), 2, dtype=torch.long)
    return ResampledTop1(Predictions("classification", ("no", "yes"), sizes, logits, labels))


def accuracies(rng: Generator) -> tuple[Resampled, Resampled]:
    """Two classifiers that are mostly right on the same of 150 images: 0.77 and 0.7 of them."""
    other = rng.random(150) < 0.7
    one = rng.random(150) < np.where(other, 0.95, 0.35)
    return classifier(one), classifier(other)


def interval(one: Resampled, other: Resampled, seed: int) -> tuple[float, float]:
    row, control = {None: sampled(one, seed=seed)}, {None: sampled(other, seed=seed)}
    return paired_difference(row, control).over_images


def covered(intervals: list[tuple[float, float]], truth: float) -> float:
    return float(np.mean([lower <= truth <= upper for lower, upper in intervals]))


@pytest.mark.slow
def test_the_interval_over_images_covers_a_difference_in_accuracy() -> None:
    rng = np.random.default_rng(0)
    intervals = [interval(*accuracies(rng), seed) for seed in range(EXPERIMENTS)]
    assert 0.93 <= covered(intervals, 0.07) <= 0.97


def test_a_bootstrap_that_drops_duplicates_gives_intervals_a_fifth_too_narrow() -> None:
    rng = np.random.default_rng(1)
    pairs = [accuracies(rng) for _ in range(50)]
    right, wrong = (
        np.mean([np.diff(interval(kind(one), kind(other), 0)) for one, other in pairs])
        for kind in (lambda model: model, WithoutDuplicates)
    )
    spread = (0.7 * 0.05 + 0.3 * 0.35 - 0.07**2) ** 0.5 / 150**0.5
    assert right == pytest.approx(2 * 1.96 * spread, rel=0.03)
    assert wrong / right == pytest.approx(0.76, abs=0.03)


def detectors(rng: Generator, images: int) -> tuple[Resampled, Resampled]:
    """Two detectors of one class; both find easy objects, and the second one fewer of the rest."""
    objects = rng.poisson(2.0, images)
    image = np.repeat(np.arange(images), objects)
    ease = rng.random(len(image))
    return (
        detector(rng, image, objects, rng.random(len(image)) < 0.3 + 0.7 * ease, 1.5),
        detector(rng, image, objects, rng.random(len(image)) < 0.2 + 0.7 * ease, 2.0),
    )


def detector(
    rng: Generator,
    image: NDArray[np.int64],
    objects: NDArray[np.int64],
    found: NDArray[np.bool_],
    wrong_boxes: float,
) -> Resampled:
    images = len(objects)
    wrong = np.repeat(np.arange(images), rng.poisson(wrong_boxes, images))
    scores = np.concatenate([rng.beta(3, 2, found.sum()), rng.beta(2, 3, len(wrong))])
    order = np.argsort(-scores)
    numbers = np.concatenate([image[found], wrong])[order]
    right = (np.arange(len(scores)) < found.sum())[order][None]
    judged = Judged(numbers, right, np.zeros_like(right), objects)
    return ResampledVOC([judged], images, area=True)


@pytest.mark.slow
def test_the_interval_over_images_covers_a_difference_in_average_precision() -> None:
    rng = np.random.default_rng(0)
    once = np.ones((1, 400_000), dtype=np.int64)
    one, other = (float(model.headlines(once)[0]) for model in detectors(rng, 400_000))
    intervals = [interval(*detectors(rng, 100), seed) for seed in range(EXPERIMENTS)]
    assert 0.93 <= covered(intervals, one - other) <= 0.97


def test_the_interval_over_seeds_covers_a_difference() -> None:
    rng = np.random.default_rng(0)
    intervals = []
    for _ in range(EXPERIMENTS):
        luck = rng.normal(0.7, 0.05, 4)  # of a seed, shared by both
        row = {seed: drawn(luck[seed] + rng.normal(0.02, 0.01)) for seed in range(4)}
        control = {seed: drawn(luck[seed]) for seed in range(4)}
        intervals.append(paired_difference(row, control).over_seeds)
    assert 0.93 <= covered(intervals, 0.02) <= 0.97


def test_beats_is_seldom_said_of_a_row_that_gains_nothing() -> None:
    """The case of five seeds that is the worst: as much chance in the images as in training."""
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(2000):
        images, seeds = rng.normal(0, 0.01), rng.normal(0, 0.01 * 5**0.5, 5)
        around = rng.normal(0, 0.01, 1000)
        row = {seed: drawn(images + seeds[seed], around) for seed in range(5)}
        control = dict.fromkeys(row, drawn(0.0))
        verdicts.append(verdict(paired_difference(row, control)))
    assert verdicts.count("BEATS") / len(verdicts) < 0.05


def test_draws_are_the_same_for_all_models_and_in_each_run() -> None:
    one, other = accuracies(np.random.default_rng(0))
    np.testing.assert_array_equal(sampled(one).drawn, sampled(one).drawn)
    assert paired_difference({0: sampled(one)}, {0: sampled(one)}).over_images == (0, 0)
    assert not np.array_equal(sampled(one, seed=1).drawn, sampled(one).drawn)
    wider = np.diff(paired_difference({0: sampled(one, seed=0)}, {0: sampled(other)}).over_images)
    alone = np.quantile(sampled(one).drawn, [0.025, 0.975])
    assert wider < np.diff(alone)  # the same images, most of which both have right


def test_blocks_of_draws_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = accuracies(np.random.default_rng(0))
    expected = sampled(one).drawn
    monkeypatch.setattr("limbeck.report.intervals._BLOCK", 150 * 7)
    np.testing.assert_array_equal(sampled(one).drawn, expected)


def test_seeds_are_averaged_draw_by_draw() -> None:
    wave = np.tile([-0.1, 0.1], 500)
    row = {0: drawn(0.6, wave), 1: drawn(0.8, -wave)}  # what one loses in a draw, the other gains
    found = paired_difference(row, {0: drawn(0.5), 1: drawn(0.5)})
    assert found.mean == pytest.approx(0.2)
    assert found.by_seed == pytest.approx({0: 0.1, 1: 0.3})
    assert found.over_images == pytest.approx((0.2, 0.2))
    half = 12.7062 * 0.2 / 2**0.5 / 2**0.5  # t of one degree of freedom, standard error
    assert found.over_seeds == pytest.approx((0.2 - half, 0.2 + half), rel=1e-4)


def test_only_seeds_that_both_have_are_compared() -> None:
    row = {0: drawn(0.6), 1: drawn(0.7), 2: drawn(0.9)}
    found = paired_difference(row, {2: drawn(0.5), 1: drawn(0.5), 3: drawn(0.0)})
    assert found.by_seed == pytest.approx({1: 0.2, 2: 0.4})
    with pytest.raises(ValueError, match="the row has the seeds 0, 1, 2 and the control has 3"):
        paired_difference(row, {3: drawn(0.5)})


def test_a_model_without_a_seed_is_compared_with_every_seed() -> None:
    students, teacher = {0: drawn(0.6), 1: drawn(0.7)}, {None: drawn(0.9)}
    ahead = paired_difference(teacher, students)
    assert ahead.by_seed == pytest.approx({0: 0.3, 1: 0.2})
    assert paired_difference(students, teacher).by_seed == pytest.approx({0: -0.3, 1: -0.2})
    alone = paired_difference(teacher, {None: drawn(0.8)})
    assert (alone.mean, alone.by_seed, alone.over_seeds) == (pytest.approx(0.1), {}, None)


def test_above_0_is_better_where_less_is_better() -> None:
    wave = np.linspace(-0.1, 0.05, 1000)
    row, control = {0: drawn(1.0, wave), 1: drawn(1.1, wave)}, {0: drawn(1.5), 1: drawn(1.5)}
    more, less = (paired_difference(row, control, higher_is_better=h) for h in (True, False))
    assert less.mean == pytest.approx(0.45)
    assert less.by_seed == pytest.approx({0: 0.5, 1: 0.4})
    for name in ("over_images", "over_seeds"):
        lower, upper = getattr(more, name)
        assert getattr(less, name) == pytest.approx((-upper, -lower))


def test_draws_without_a_headline_are_left_out() -> None:
    gaps = np.where(np.arange(1000) % 3 == 0, np.nan, 0.0)
    found = paired_difference({0: drawn(0.6, gaps)}, {0: drawn(0.5)})
    assert found.over_images == pytest.approx((0.1, 0.1))
    with pytest.raises(ValueError, match="not a finite number"):
        paired_difference({0: drawn(np.nan)}, {0: drawn(0.5)})


def test_models_have_to_be_scored_on_the_same_draws() -> None:
    other = Sampled(0.5, np.full(1000, 0.5), images=11, seed=0)
    with pytest.raises(ValueError, match="10 images, seed 0, 1000 draws; 11 images"):
        paired_difference({0: drawn(0.5)}, {0: other})
    one, _ = accuracies(np.random.default_rng(0))
    with pytest.raises(ValueError, match="got 999 draws of 150 images; an interval needs 1000"):
        sampled(one, draws=999)


@pytest.mark.parametrize(
    ("over_images", "over_seeds", "expected"),
    [
        ((0.001, 0.03), (0.002, 0.02), "BEATS"),
        ((0.001, 0.003), (0.001, 0.002), "BEATS"),  # small, and sure
        ((0.001, 0.03), (-0.001, 0.02), "INCONCLUSIVE"),
        ((-0.001, 0.03), (0.001, 0.02), "INCONCLUSIVE"),
        ((0.0, 0.03), (0.001, 0.02), "INCONCLUSIVE"),
        ((-0.01, 0.004), (-0.02, 0.004), "DOES NOT BEAT"),
        ((-0.01, -0.004), (-0.02, -0.004), "DOES NOT BEAT"),
        ((-0.01, 0.005), (-0.02, 0.004), "INCONCLUSIVE"),
        ((-0.01, 0.004), (-0.02, 0.006), "INCONCLUSIVE"),
        ((0.001, 0.03), None, "INCONCLUSIVE"),
        ((-0.02, -0.01), None, "INCONCLUSIVE"),
    ],
)
def test_verdicts(
    over_images: tuple[float, float], over_seeds: tuple[float, float] | None, expected: str
) -> None:
    assert verdict(Difference(0.0, {}, over_images, over_seeds, images=10)) == expected
    assert verdict(Difference(0.0, {}, over_images, over_seeds, images=9)) == "INCONCLUSIVE"


def test_the_smallest_gain_can_be_stated() -> None:
    found = Difference(0.0, {}, (-0.01, 0.02), (-0.01, 0.02), images=100)
    assert verdict(found) == "INCONCLUSIVE"
    assert verdict(found, smallest_gain=0.03) == "DOES NOT BEAT"
    assert "below 0.03, the smallest gain" in rule(0.03)
    assert "below 0.005, the smallest gain" in rule()
    assert "1,000 draws" in rule()


def test_a_plain_student_that_still_gains_is_under_trained() -> None:
    plain = {0: drawn(0.70), 1: drawn(0.72)}  # standard deviation 0.0141
    longer = {seed: drawn(model.headline + 0.015) for seed, model in plain.items()}
    sentence = undertrained(plain, longer)
    assert sentence is not None
    assert "gains 0.0150, more than the standard deviation of 0.0141 over its seeds" in sentence
    assert undertrained(plain, {0: drawn(0.715)}) is not None  # one of the seeds will do
    assert undertrained(plain, {0: drawn(0.713), 1: drawn(0.732)}) is None
    assert undertrained(plain, longer, higher_is_better=False) is None


def test_with_one_seed_a_gain_is_measured_by_the_chance_in_the_images() -> None:
    wave = np.linspace(-0.02, 0.02, 1000)
    plain = {0: drawn(0.7)}
    assert undertrained(plain, {0: drawn(0.718, wave)}) is None  # half width 0.019
    sentence = undertrained(plain, {0: drawn(0.72, wave)})
    assert sentence is not None
    assert "more than the 0.0190 that chance in the images explains" in sentence
