"""PASCAL VOC's average precision under weights of the images."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.metrics.predictions import Predictions
from limbeck.metrics.resampled.base import Resampled, Weights
from limbeck.metrics.resampled.curves import Judged, by_class, interpolated
from limbeck.metrics.voc import IGNORED, RIGHT, VOCAveragePrecision, match

RECALLS = np.arange(11, dtype=np.float64) * 0.1  # as in average_precision_11_point


class ResampledVOC(Resampled):
    """The mean over classes of the average precision at one IoU threshold.

    Args:
        classes: The boxes of each class.
        images: The number of images.
        area: Whether the area under the curve is measured, rather than 11 points of it.
    """

    def __init__(self, classes: Sequence[Judged], images: int, *, area: bool) -> None:
        self.classes, self.images, self.area = classes, images, area
        self.rows = max(judged.rows for judged in classes)

    @classmethod
    def of(cls, metric: VOCAveragePrecision, predictions: Predictions) -> "ResampledVOC":
        """Match the boxes of each image.

        Args:
            metric: An empty metric.
            predictions: What a detector predicts.

        Returns:
            The metric's ``mAP`` in draws of the images.
        """
        predictions.measured(metric)
        verdicts = [match(*image, metric.iou_threshold) for image in metric.images()]
        verdict = torch.cat(verdicts)[None].numpy()
        labels = range(1, len(metric.classes) + 1)
        counts = ~metric.rows()[1]["difficult"].numpy()
        classes = by_class(metric, labels, verdict == RIGHT, verdict == IGNORED, counts)
        return cls(classes, len(predictions), area=metric.interpolation == "area")

    def _headlines(self, weights: Weights) -> NDArray[np.float64]:
        measure = _area if self.area else _eleven_points
        mean: NDArray[np.float64] = np.mean([measure(c, weights) for c in self.classes], axis=0)
        return mean


def _eleven_points(judged: Judged, weights: Weights) -> NDArray[np.float64]:
    ((_, reached, best),) = judged.curves(weights)
    return interpolated(reached, best, judged.positives(weights), RECALLS)


def _area(judged: Judged, weights: Weights) -> NDArray[np.float64]:
    ((steps, _, best),) = judged.curves(weights)
    positives = judged.positives(weights)
    area: NDArray[np.float64] = (steps * best).sum(axis=0) / np.maximum(positives, 1)
    boxes = np.bincount(judged.images, minlength=len(weights)) @ weights
    area[(positives == 0) & (boxes > 0)] = np.nan  # as the kit has it
    return area
