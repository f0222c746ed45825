"""KITTI's average precision under weights of the images.

The thresholds on scores depend on all images of a draw. So what is right and wrong in an image is
found beforehand at each of the image's own scores: between two of them nothing changes. These
changes, by falling score, are summed up to whichever thresholds a draw has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.metrics.kitti import RECALLS, AtLevel, KITTIAveragePrecision, points_of
from limbeck.metrics.predictions import Predictions
from limbeck.metrics.resampled.base import Resampled, Weights, cumulated

MOST_CELLS = 2**22  # thresholds times boxes that are judged at once


@dataclass(frozen=True)
class Changes:
    """What changes in one class at one level of difficulty as the threshold on scores falls.

    Attributes:
        objects: The number of objects that count in each image, (images,).
        right_scores: The scores of boxes that are right where every score will do, falling, (R,).
        right_images: The image of each of these boxes, (R,).
        images: The image of each change, by falling score, (E,).
        rights: By how much the number of right boxes of the image changes, (E,).
        wrongs: By how much the number of wrong boxes changes, (E,).
        ends: The number of changes at or above each of the right scores, (R,).
    """

    objects: NDArray[np.int64]
    right_scores: NDArray[np.float32]
    right_images: NDArray[np.int64]
    images: NDArray[np.int64]
    rights: NDArray[np.float64]
    wrongs: NDArray[np.float64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, at_level: AtLevel, images: int) -> "Changes":
        """Judge the boxes of each image at each of its scores.

        Args:
            at_level: The objects and boxes.
            images: The number of images.

        Returns:
            The changes.
        """
        boxes, right = at_level.overlapping.boxes, at_level.right()
        right = right[boxes["scores"][right].argsort(descending=True, stable=True)]
        right_scores = boxes["scores"][right].numpy()
        scores, numbers, rights, wrongs = _changes(at_level, images)
        objects = at_level.overlapping.objects["image"][at_level.counted].numpy()
        return cls(
            np.bincount(objects, minlength=images),
            right_scores,
            boxes["image"][right].numpy(),
            numbers,
            rights,
            wrongs,
            np.searchsorted(-scores, -right_scores, side="right"),
        )

    def precisions(self, weights: Weights) -> NDArray[np.float64]:
        """The best precision at or above the recalls 0, 1/40, ..., 1 in each draw, (41, draws)."""
        reached = np.cumsum(weights[self.right_images], axis=0)
        kept = kept_ranks(self.objects @ weights)
        rights = cumulated(weights, self.images, self.ends, self.rights)
        wrongs = cumulated(weights, self.images, self.ends, self.wrongs)
        precisions = rights / np.maximum(rights + wrongs, 1)
        found = np.zeros(kept.shape)
        for draw in np.flatnonzero(reached[-1] > 0) if len(reached) else ():
            last = reached[-1, draw] - 1  # is always kept, and nothing after it
            ranks = kept[:, draw]
            count = np.searchsorted(ranks, last) + 1
            at = np.searchsorted(reached[:, draw], np.minimum(ranks[:count], last), side="right")
            found[:count, draw] = precisions[at, draw]
        best: NDArray[np.float64] = np.maximum.accumulate(found[::-1], axis=0)[::-1]
        return best


class ResampledKITTI(Resampled):
    """The mean over classes and levels of the average precision.

    Args:
        changes: What changes with the threshold, for each class and level.
        images: The number of images.
        points: The number of recalls that precision is averaged over, 11 or 40.
    """

    def __init__(self, changes: Sequence[Changes], images: int, points: int) -> None:
        self.changes, self.images, self.points = changes, images, points
        self.rows = max(RECALLS, *(len(each.ends) for each in changes))

    @classmethod
    def of(cls, metric: KITTIAveragePrecision, predictions: Predictions) -> "ResampledKITTI":
        """Match the boxes of each image.

        Args:
            metric: An empty metric.
            predictions: What a detector predicts.

        Returns:
            The metric's ``mAP`` in draws of the images.
        """
        images = len(predictions)
        predictions.measured(metric)
        changes = [Changes.of(at_level, images) for _, at_level in metric.at_levels()]
        return cls(changes, images, metric.points)

    def _headlines(self, weights: Weights) -> NDArray[np.float64]:
        points = points_of(self.points)
        means = [each.precisions(weights)[points].mean(axis=0) for each in self.changes]
        mean: NDArray[np.float64] = np.mean(means, axis=0)
        return mean


def kept_ranks(positives: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ranks of right scores at which recall comes nearest to 0, 1/40, ..., 1.

    This is :func:`limbeck.metrics.kitti.recall_thresholds` without its end, for many draws: the
    first rank after the one before at which the next recall is not nearer.

    Args:
        positives: The numbers of objects that count, (draws,).

    Returns:
        The ranks, which count from 0, (41, draws).
    """
    positives = np.maximum(positives, 1)
    before, recall = np.full(len(positives), -1.0), 0.0
    kept = []
    for _ in range(RECALLS):
        # Rounding decides between two ranks that are as near, so the original's terms are compared.
        guess = np.ceil(recall * positives - 1.5) + np.array([[-1], [0], [1]])
        near = (guess + 2) / positives - recall >= recall - (guess + 1) / positives
        first = guess[near.argmax(axis=0), np.arange(len(positives))]
        before = np.maximum(before + 1, first)
        kept.append(before)
        recall += 1 / (RECALLS - 1)
    return np.stack(kept)


def _changes(
    at_level: AtLevel, images: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The score, the image, the change of right and of wrong boxes, by falling score, (E,) each."""
    boxes = at_level.overlapping.boxes
    own = _own_scores(boxes["scores"][at_level.valid], boxes["image"][at_level.valid], images)
    objects = at_level.overlapping.objects["image"][at_level.counted]
    before, parts = torch.zeros(2, 1, images), []
    for ranks in torch.split(own, max(1, MOST_CELLS // max(1, len(boxes["image"])))):
        found, wrong = at_level.judged(ranks[:, boxes["image"]])
        counts = torch.stack(
            [_by_image(found, objects, images), _by_image(wrong, boxes["image"], images)]
        )
        changes = counts.diff(dim=1, prepend=before)
        before = counts[:, -1:]
        rank, image = changes.any(dim=0).nonzero(as_tuple=True)
        parts.append((ranks[rank, image], image, *changes[:, rank, image].double()))
    if not parts:
        return np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0), np.empty(0)
    scores, number, rights, wrongs = (torch.cat(part) for part in zip(*parts, strict=True))
    order = scores.argsort(descending=True, stable=True)
    return (
        scores[order].numpy(),
        number[order].numpy(),
        rights[order].numpy(),
        wrongs[order].numpy(),
    )


def _own_scores(scores: Tensor, image: Tensor, images: int) -> Tensor:
    """The scores of each image, falling, (most boxes of an image, images); the last one goes on."""
    order = scores.argsort(descending=True, stable=True)
    order = order[image[order].argsort(stable=True)]
    counts = image.bincount(minlength=images)
    start = counts.cumsum(0) - counts
    ranks = torch.arange(int(counts.max()))[:, None].minimum((counts - 1).clamp(min=0))
    # An image without a box takes any score.
    return scores[order][(start + ranks).clamp(max=len(order) - 1)]


def _by_image(marked: Tensor, image: Tensor, images: int) -> Tensor:
    """The number of marked columns of each image, float (T, images)."""
    return torch.zeros(len(marked), images).index_add(1, image, marked.float())
