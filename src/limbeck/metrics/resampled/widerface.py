"""WIDER FACE's average precision under weights of the images."""

import numpy as np
from numpy.typing import NDArray

from limbeck.metrics.predictions import Predictions
from limbeck.metrics.resampled.base import Resampled, Weights, cumulated
from limbeck.metrics.widerface import (
    SETTINGS,
    THRESHOLDS,
    Ranked,
    WIDERFaceAveragePrecision,
    boxes_above,
)


class ResampledWIDERFace(Resampled):
    """The mean of the average precision of easy, medium and hard faces.

    Scores are stretched over all images of a draw, so which boxes are above a threshold depends on
    the lowest and the highest score of the draw. Draws that agree in both are taken together.

    Args:
        ranked: The boxes of all images.
        faces: The number of faces that count in each image, (images,), by setting.
    """

    rows = THRESHOLDS

    def __init__(self, ranked: Ranked, faces: dict[str, NDArray[np.int64]]) -> None:
        self.ranked, self.faces = ranked, faces
        self.images = len(ranked.lowest)

    @classmethod
    def of(
        cls, metric: WIDERFaceAveragePrecision, predictions: Predictions
    ) -> "ResampledWIDERFace":
        """Match the boxes of each image.

        Args:
            metric: An empty metric.
            predictions: What a detector predicts.

        Returns:
            The metric's ``AP`` in draws of the images.
        """
        predictions.measured(metric)
        _, truth = metric.rows()
        faces = {
            setting: np.bincount(truth["image"][truth[setting]], minlength=len(predictions))
            for setting in SETTINGS
        }
        return cls(metric.ranked(), faces)

    def _headlines(self, weights: Weights) -> NDArray[np.float64]:
        drawn = weights > 0
        lowest = np.where(drawn, self.ranked.lowest.numpy()[:, None], np.inf).min(axis=0)
        highest = np.where(drawn, self.ranked.highest.numpy()[:, None], -np.inf).max(axis=0)
        spans, group = np.unique(np.stack([lowest, highest]), axis=1, return_inverse=True)
        headlines = np.empty(weights.shape[1])
        for number, span in enumerate(spans.T.tolist()):
            ranks = boxes_above(self.ranked.scores, *span).numpy()
            mine = group.reshape(-1) == number  # NumPy 2.0.0 gives it as (1, draws)
            headlines[mine] = self._mean(ranks, np.ascontiguousarray(weights[:, mine]))
        return headlines

    def _mean(self, ranks: NDArray[np.int64], weights: Weights) -> NDArray[np.float64]:
        """The mean over settings where so many boxes are above each threshold."""
        total = np.zeros(weights.shape[1])
        for setting in SETTINGS:
            proposed, recalled = (
                self._boxes(boxes[setting].numpy(), ranks, weights)
                for boxes in (self.ranked.counted, self.ranked.right)
            )
            faces = self.faces[setting] @ weights
            precision = recalled / np.maximum(proposed, 1)
            best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
            area = (np.diff(recalled, axis=0, prepend=0) * best).sum(axis=0)
            total += np.where(faces > 0, area / np.maximum(faces, 1), np.nan)
        return total / len(SETTINGS)

    def _boxes(
        self, marked: NDArray[np.bool_], ranks: NDArray[np.int64], weights: Weights
    ) -> NDArray[np.float64]:
        """The number of marked boxes at or above each threshold, (1000, draws)."""
        ends = np.concatenate([[0], np.cumsum(marked)])[ranks]
        return cumulated(weights, self.ranked.images.numpy()[marked], ends)
