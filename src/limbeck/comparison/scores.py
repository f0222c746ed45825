"""The scores of finished runs, from what their models predict on the images of a comparison."""

import math
from collections.abc import Sequence
from pathlib import Path

from torchmetrics import Metric

from limbeck.comparison.job import Job
from limbeck.comparison.parts import ScoredImages, data_of, metric_of
from limbeck.metrics.predictions import Predictions
from limbeck.metrics.resampled import resampled
from limbeck.recipe import Recipe
from limbeck.report.intervals import Sampled, sampled
from limbeck.training.scoring import headline_of, higher_is_better, named_scores


class Scores:
    """The scores of finished runs on one set of images, each computed once.

    Args:
        scoring: The recipe that a run is scored with, which states the images and the metric.

    Attributes:
        images: The images.
        headline: The name of the score that runs are compared by.
        higher_is_better: Whether more of it is better.
    """

    def __init__(self, scoring: Recipe) -> None:
        data = data_of(scoring)
        self.images = ScoredImages(data)
        self._new_metric = metric_of(scoring, data.task, data.classes)
        self._scores: dict[Path, dict[str, float]] = {}
        self._sampled: dict[Path, Sampled] = {}
        metric: Metric = self._new_metric()
        self.headline = headline_of(metric)
        self.higher_is_better = higher_is_better(metric)

    def of(self, job: Job) -> dict[str, float]:
        """All scores of a finished run, by their names."""
        if job.predictions not in self._scores:
            metric = Predictions.load(job.predictions).measured(self._new_metric())
            found = {name: float(value) for name, value in named_scores(metric).items()}
            self._scores[job.predictions] = found
        return self._scores[job.predictions]

    def headlines(self, jobs: Sequence[Job]) -> list[float]:
        """The score that each of some finished runs is judged by."""
        return [self.of(job)[self.headline] for job in jobs]

    def defined(self, jobs: Sequence[Job]) -> list[Job]:
        """The runs whose headline is a number; VOC's by area is none without a class's objects."""
        return [job for job in jobs if math.isfinite(self.of(job)[self.headline])]

    def sampled(self, jobs: Sequence[Job]) -> dict[int | None, Sampled]:
        """The headlines of finished runs of one row in many draws of the images, by seed."""
        for job in jobs:
            if job.predictions not in self._sampled:
                predictions = Predictions.load(job.predictions)
                self._sampled[job.predictions] = sampled(resampled(self._new_metric(), predictions))
        return {job.seed: self._sampled[job.predictions] for job in jobs}
