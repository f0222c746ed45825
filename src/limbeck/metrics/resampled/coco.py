"""COCO's average precision under weights of the images.

The evaluation program tells what it has matched in a dictionary for each image, class and size, and
that takes longer than to match. So the matching stands here again.

Source: https://cocodataset.org/#detection-eval, as in hotcoco.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limbeck.metrics.coco import MOST_BOXES, COCOAveragePrecision, as_xywh, stated_areas
from limbeck.metrics.detections import Boxes
from limbeck.metrics.predictions import Predictions
from limbeck.metrics.resampled.base import Resampled, Weights
from limbeck.metrics.resampled.curves import Judged, by_class, interpolated

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
LARGEST = 1e5**2  # square pixels of an object or a box that counts


class ResampledCOCO(Resampled):
    """The average precision over ten IoU thresholds and over those classes that a draw has.

    Args:
        classes: The boxes of each class.
        images: The number of images.
    """

    def __init__(self, classes: Sequence[Judged], images: int) -> None:
        self.classes, self.images = classes, images
        self.rows = max((judged.rows for judged in classes), default=0)

    @classmethod
    def of(cls, metric: COCOAveragePrecision, predictions: Predictions) -> "ResampledCOCO":
        """Match the boxes of each image.

        Args:
            metric: An empty metric.
            predictions: What a detector predicts.

        Returns:
            The metric's ``AP`` in draws of the images.
        """
        predictions.measured(metric)
        images = metric.images()
        right, ignored = (np.concatenate(p, axis=1) for p in zip(*map(match, images), strict=True))
        _, truth = metric.rows()
        labels = np.unique(truth["labels"])
        return cls(by_class(metric, labels, right, ignored, _counts(truth)), len(images))

    def _headlines(self, weights: Weights) -> NDArray[np.float64]:
        total, classes = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
        for judged in self.classes:
            positives = judged.positives(weights)
            classes += positives > 0
            for _, reached, best in judged.curves(weights):
                total += interpolated(reached, best, positives, RECALLS) / len(IOUS)
        return np.where(classes > 0, total / np.maximum(classes, 1), -1.0)


def match(image: tuple[Boxes, Boxes]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Judge the boxes of one image, the highest score first, at each IoU threshold.

    A box takes the free object of its class that it overlaps most, an object that counts before
    one that does not; of equals the last. A crowd stays free.

    Args:
        image: The N predictions and the M targets, as the metric keeps them.

    Returns:
        Whether each prediction is right, and whether it is neither right nor wrong, (10, N) each.
    """
    prediction, target = image
    counts, crowd = _counts(target), target["iscrowd"].numpy() != 0
    right = np.zeros((len(IOUS), len(prediction["labels"])), dtype=bool)
    ignored = right | (_areas(prediction) > LARGEST)
    free = np.ones((len(IOUS), len(counts)), dtype=bool)
    order = prediction["scores"].argsort(descending=True, stable=True).numpy()
    overlaps = _overlaps(prediction, target, crowd)
    for box in order[(overlaps[order] >= IOUS[0]).any(axis=1)]:
        near = np.flatnonzero(overlaps[box] >= IOUS[0])
        near = near[np.lexsort((-near, -overlaps[box, near], ~counts[near]))]
        fits = (overlaps[box, near] >= IOUS[:, None]) & free[:, near]
        matched, chosen = fits.any(axis=1), near[fits.argmax(axis=1)]
        free[matched, chosen[matched]] = crowd[chosen[matched]]
        right[:, box] = matched & counts[chosen]
        ignored[:, box] = np.where(matched, ~counts[chosen], ignored[:, box])
    labels = prediction["labels"].numpy()[order]
    for label in np.flatnonzero(np.bincount(labels) > MOST_BOXES):
        beyond = order[labels == label][MOST_BOXES:]  # they take objects, but only after the rest
        right[:, beyond], ignored[:, beyond] = False, True
    return right, ignored


def _counts(target: Boxes) -> NDArray[np.bool_]:
    """Which objects count, (M,)."""
    counts: NDArray[np.bool_] = (target["iscrowd"].numpy() == 0) & (stated_areas(target) <= LARGEST)
    return counts


def _overlaps(prediction: Boxes, target: Boxes, crowd: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The IoU of boxes of one class, and with a crowd the part of the box in it, (N, M).

    As in the program, widths are those of float32, and all else is float64.
    """
    boxes, objects = as_xywh(prediction)[:, None], as_xywh(target)
    corner = np.maximum(boxes[..., :2], objects[..., :2])
    ends = np.minimum(boxes[..., :2] + boxes[..., 2:], objects[..., :2] + objects[..., 2:])
    shared = (ends - corner).clip(min=0).prod(axis=-1)
    area = _areas(prediction)[:, None]
    union = np.where(crowd, area, area + _areas(target) - shared)
    same = prediction["labels"].numpy()[:, None] == target["labels"].numpy()
    overlaps: NDArray[np.float64] = np.divide(
        shared, union, out=np.zeros_like(shared), where=same & (shared > 0)
    )
    return overlaps


def _areas(rows: Boxes) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = as_xywh(rows)[:, 2:].prod(axis=1)
    return areas
