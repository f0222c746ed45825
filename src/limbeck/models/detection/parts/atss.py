"""Adaptive training sample selection: which anchors have to predict which object.

Zhang, Chi, Yao, Lei, Li: Bridging the Gap Between Anchor-based and Anchor-free Detection via
Adaptive Training Sample Selection. CVPR 2020, arXiv:1912.02424, algorithm 1. Of each object

* the candidates are the 9 anchors of each level whose centres are nearest to its own;
* the threshold is the mean of the candidates' IoU with it, plus their standard deviation (unbiased,
  as in mmdetection);
* positive is a candidate whose IoU reaches the threshold, and whose centre lies inside of it.

An anchor that is positive for several objects goes to the one that it fits best by IoU.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck.models.detection.parts.matcher import IGNORED, NEGATIVE, PADDED_SIZE
from limbeck.models.detection.parts.overlaps import iou

CANDIDATES = 9  # of each level
_INSIDE = 0.01  # pixels by which a centre has to lie within the box
_BLOCK = 2**24  # distances at a time: 64 MB


class Candidates(NamedTuple):
    """The candidates of M objects, C of each.

    Attributes:
        anchors: The index of each among the anchors, (M, C).
        overlaps: The IoU of each with its object, (M, C); -1 where there are fewer than C.
        threshold: The IoU from which on they are positive, (M,).
    """

    anchors: Tensor
    overlaps: Tensor
    threshold: Tensor


class ATSSMatcher:
    """Gives the anchors of a batch their objects, without a wait for the device.

    Args:
        count: The number of candidates of each level, at most.
    """

    def __init__(self, count: int = CANDIDATES) -> None:
        self.count = count

    def __call__(
        self, targets: Sequence[dict[str, Tensor]], anchors: Tensor, counts: Sequence[int]
    ) -> Tensor:
        """Match every anchor of a batch to an object, to the background, or to nothing.

        Args:
            targets: The ``boxes`` (M, 4) of each image, in the network's frame. Where they have
                :data:`limbeck.models.detection.parts.matcher.PADDED_SIZE`, anchors of cells outside
                of that area are no candidates, and are ignored.
            anchors: The anchors that every image has, (N, 4), level by level.
            counts: The number of anchors of each level.

        Returns:
            For every anchor of each image (B, N) the index of its object among those of the whole
            batch, image by image, or ``NEGATIVE``, or ``IGNORED``.
        """
        return self.with_thresholds(targets, anchors, counts)[0]

    @torch.no_grad()
    def with_thresholds(
        self, targets: Sequence[dict[str, Tensor]], anchors: Tensor, counts: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """What calling the matcher gives, (B, N), and the threshold of each object, (M,)."""
        boxes, image = objects_of(targets)
        inside = cells_inside(targets, anchors)
        found = candidates(boxes, anchors, counts, self.count, inside, image)
        x, y = _centres(anchors)[found.anchors].unbind(2)  # (M, C) each
        left, top, right, bottom = boxes[:, None].unbind(2)  # (M, 1) each
        depth = torch.stack([x - left, y - top, right - x, bottom - y]).amin(dim=0)
        positive = (found.overlaps >= found.threshold[:, None]) & (depth > _INSIDE)
        matched = _best(positive, found, image, (len(targets), len(anchors)))
        if inside is not None:
            matched = matched.masked_fill(~inside, IGNORED)
        return matched, found.threshold


def objects_of(targets: Sequence[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """The boxes (M, 4) of all images, one after the other, and the image of each (M,)."""
    boxes = [target["boxes"].float() for target in targets]
    images = [b.new_full((len(b),), i, dtype=torch.long) for i, b in enumerate(boxes)]
    return torch.cat(boxes), torch.cat(images)


def cells_inside(targets: Sequence[dict[str, Tensor]], anchors: Tensor) -> Tensor | None:
    """Which anchors lie in their image's own padded area, (B, N). None: all of them do."""
    if any(PADDED_SIZE not in target for target in targets):
        return None
    padded = torch.stack([target[PADDED_SIZE] for target in targets])  # (B, 2): height, width
    return (_centres(anchors).round() < padded.flip(1)[:, None]).all(dim=2)


def candidates(
    boxes: Tensor,
    anchors: Tensor,
    counts: Sequence[int],
    count: int,
    inside: Tensor | None,
    image: Tensor,
) -> Candidates:
    """The candidates of objects and their thresholds.

    Args:
        boxes: The boxes of the objects, (M, 4).
        anchors: The anchors, (N, 4), level by level.
        counts: The number of anchors of each level.
        count: The number of candidates of each level, at most.
        inside: The anchors of each image that can be candidates, (B, N). None: all of them.
        image: The image of each object, (M,).

    Returns:
        The candidates.
    """
    at_a_time = max(1, _BLOCK // max(1, len(anchors)))
    blocks = zip(*(torch.split(each, at_a_time) for each in (boxes, image)), strict=True)
    nearest = [
        _nearest(of_block, anchors, counts, count, None if inside is None else inside[images])
        for of_block, images in blocks
    ]
    index, distance = map(torch.cat, zip(*nearest, strict=True))
    there = distance.isfinite()
    overlaps = iou(anchors[index], boxes[:, None])
    number = there.sum(dim=1, keepdim=True)
    mean = overlaps.where(there, 0).sum(dim=1, keepdim=True) / number.clamp(min=1)
    squares = (overlaps - mean).square().where(there, 0).sum(dim=1, keepdim=True)
    threshold = mean + (squares / (number - 1).clamp(min=1)).sqrt()
    return Candidates(index, overlaps.where(there, -1), threshold[:, 0])


def _nearest(
    boxes: Tensor, anchors: Tensor, counts: Sequence[int], count: int, inside: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The nearest anchors of each level, (M, C), and the distances of their centres, in pixels."""
    exact = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(_centres(boxes), _centres(anchors), compute_mode=exact)
    if inside is not None:
        distances = distances.masked_fill(~inside, torch.inf)
    start, found, index = 0, [], []
    for level in torch.split(distances, list(counts), dim=1):
        nearest = level.topk(min(count, level.shape[1]), dim=1, largest=False)
        found.append(nearest.values)
        index.append(nearest.indices + start)
        start += level.shape[1]
    return torch.cat(index, dim=1), torch.cat(found, dim=1)


def _best(positive: Tensor, found: Candidates, image: Tensor, shape: tuple[int, int]) -> Tensor:
    """For every anchor of each image (B, N) its object of the greatest IoU, or ``NEGATIVE``."""
    images, anchors = shape
    place = (image[:, None] * anchors + found.anchors).flatten()
    overlaps = found.overlaps.where(positive, -1).flatten()
    best = overlaps.new_full((images * anchors,), -1)
    best = best.scatter_reduce(0, place, overlaps, "amax")
    number = torch.arange(len(image), device=image.device)[:, None].expand_as(positive).flatten()
    wins = positive.flatten() & (overlaps == best[place])
    last = len(image)  # behind all objects
    winner = number.new_full((images * anchors,), last)
    winner = winner.scatter_reduce(0, place, number.where(wins, last), "amin")
    return winner.masked_fill(winner == last, NEGATIVE).view(shape)


def _centres(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2
