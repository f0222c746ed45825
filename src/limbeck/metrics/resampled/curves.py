"""Precision over recall of one class, where boxes stand by falling score, in every draw at once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.metrics.detections import DetectionMetric
from limbeck.metrics.resampled.base import Weights, cumulated


@dataclass(frozen=True)
class Judged:
    """The N boxes of one class, judged at T IoU thresholds, the highest score first.

    Of equal scores the box of the earlier image comes first, then the earlier box of the image, as
    in the metrics' stable sorting. Copies of a box stand together, so that each box is one step of
    the curve: two equal scores a and b of one image that counts twice are taken as a a b b. (The
    metric itself would see a b a b; whether it sees a b or b a the model leaves to chance.)

    Attributes:
        images: The image of each box, (N,).
        right: Whether a box is right, (T, N).
        ignored: Whether a box is neither right nor wrong, (T, N).
        objects: The number of objects that count in each image, (images,).
    """

    images: NDArray[np.int64]
    right: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    objects: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """The number of boxes that are right at any threshold."""
        return int(self.right.any(axis=0).sum())

    def positives(self, weights: Weights) -> NDArray[np.float64]:
        """The number of objects that count in each draw, (draws,)."""
        positives: NDArray[np.float64] = self.objects @ weights
        return positives

    def curves(
        self, weights: Weights
    ) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]:
        """The curve at each threshold, at those boxes that are right.

        Others are not needed: the best precision at or above a recall is that of a right box, and
        of a box's copies that of the last.

        Args:
            weights: The weights of the images, (images, draws).

        Yields:
            For the K boxes that are right at the threshold, (K, draws) each: how often a box
            counts, the number of right boxes up to it, and the best precision from there on.
        """
        places = np.flatnonzero(self.right.any(axis=0))
        before = cumulated(weights, self.images, places + 1)
        for right, ignored in zip(self.right[:, places], self.ignored, strict=True):
            here = places[right]
            steps = weights[self.images[here]]
            reached = np.cumsum(steps, axis=0)
            counted = before[right]
            if ignored.any():
                ends = np.cumsum(ignored)[here]
                counted -= cumulated(weights, self.images[ignored], ends)
            precision = reached / np.maximum(counted, 1, out=counted)
            yield steps, reached, np.maximum.accumulate(precision[::-1], axis=0)[::-1]


def interpolated(
    reached: NDArray[np.float64],
    best: NDArray[np.float64],
    positives: NDArray[np.float64],
    recalls: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The mean of the best precision at or above some recalls.

    Args:
        reached: The number of right boxes up to each of them, (K, draws).
        best: The best precision from each right box on, (K, draws).
        positives: The number of objects that count, (draws,).
        recalls: The recalls, which rise from 0, (R,).

    Returns:
        The means, (draws,), which are 0 where no object counts.
    """
    passed = np.searchsorted(recalls, reached / np.maximum(positives, 1), side="right")
    new = np.diff(passed, axis=0, prepend=0)  # recalls that a box is the first one to reach
    mean: NDArray[np.float64] = np.einsum("kd,kd->d", new, best) / len(recalls)
    return mean


def by_class(
    metric: DetectionMetric,
    labels: Iterable[int],
    right: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
    counts: NDArray[np.bool_],
) -> list[Judged]:
    """The judged boxes of each class.

    Args:
        metric: A metric that has seen all images.
        labels: The labels of the classes.
        right: Whether each of its predictions is right, at each threshold, (T, N).
        ignored: Whether it is neither right nor wrong, (T, N).
        counts: Whether each of its targets counts, (M,).

    Returns:
        The boxes of each class, in the order of the labels.
    """
    found, truth = metric.rows()
    images = len(metric.images())
    order = found["scores"].argsort(descending=True, stable=True).numpy()
    classes = []
    for label in labels:
        mine = order[found["labels"].numpy()[order] == label]
        wanted = truth["image"].numpy()[counts & (truth["labels"].numpy() == label)]
        objects = np.bincount(wanted, minlength=images)
        number = found["image"].numpy()[mine]
        classes.append(Judged(number, right[:, mine], ignored[:, mine], objects))
    return classes
