"""Any metric under weights of the images: it sees each image as often as its weight says."""

from collections.abc import Mapping
from copy import deepcopy

import numpy as np
from numpy.typing import NDArray
from torchmetrics import Metric

from limbeck.metrics.predictions import Predictions
from limbeck.metrics.resampled.base import Resampled, Weights


class Repeated(Resampled):
    """A metric of which nothing is known: right for each, and as slow as ``compute`` is.

    Copies of an image come one after another.

    Args:
        metric: The metric, which is left as it is.
        predictions: What a model predicts.
    """

    rows = 0

    def __init__(self, metric: Metric, predictions: Predictions) -> None:
        self.metric, self.predictions = metric, predictions
        self.images = len(predictions)

    def _headlines(self, weights: Weights) -> NDArray[np.float64]:
        return np.array([self._headline(draw) for draw in weights.T])

    def _headline(self, weights: NDArray[np.float64]) -> float:
        seen, metric = self.predictions, deepcopy(self.metric)
        metric.reset()
        rows = np.repeat(np.arange(self.images), weights.astype(np.int64)).tolist()
        drawn = Predictions(
            seen.task,
            seen.classes,
            seen.sizes[rows],
            [seen.found[row] for row in rows],
            [seen.truth[row] for row in rows],
        )
        scores = drawn.measured(metric).compute()
        name = getattr(metric, "headline", type(metric).__name__)
        return float(scores[name] if isinstance(scores, Mapping) else scores)
