"""From the boxes and scores of all anchors, queries or regions to detections, in fixed shapes.

It is what limbeck's detectors do in evaluation mode, written once for all families, with masks in
the place of lists: a graph that is exported has no shape that depends on what an image shows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms

_NOTHING = -1.0  # the score of what is no candidate, which is below every score


class Candidates(NamedTuple):
    """What enters suppression.

    Attributes:
        boxes: The boxes (B, K, 4), xyxy, in pixels of the frame.
        scores: Their scores (B, K); below 0 for what is no candidate.
        labels: Their labels (B, K).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


Kept = Callable[[Candidates, float], Tensor]


@dataclass(frozen=True)
class Suppression:
    """How detections are chosen among all boxes and scores of a detector.

    Attributes:
        labels: What each column of the scores stands for. A detector that was made for torchvision
            may have an unused first column, whose label is 0.
        score_threshold: The score that a detection has to exceed.
        nms_threshold: The IoU above which the lower of two detections of a class is dropped. None:
            nothing is dropped.
        detections_per_image: The greatest number of detections in an image.
        best_class: Whether each box has its best class alone, and not all of them.
        topk: The greatest number of candidates. None: there is no bound.
        topk_of: What that number is of: the whole ``image``, each ``level``, or each ``class``.
        levels: The number of boxes of each level; empty where ``topk_of`` is no level.
        clip_first: Whether boxes are clipped to the frame before the others are dropped, and not at
            the end.
        smallest: The width and height that a clipped box needs, in pixels. 0: more than none. None:
            any will do.
        least: The width and height that clipped boxes keep in any case, at the border: 0, or 1.
        detections_per_class: The greatest number of detections of a class. None: there is no bound.
    """

    labels: tuple[int, ...]
    score_threshold: float
    nms_threshold: float | None
    detections_per_image: int
    best_class: bool = False
    topk: int | None = None
    topk_of: Literal["image", "level", "class"] = "image"
    levels: tuple[int, ...] = ()
    clip_first: bool = True
    smallest: float | None = None
    least: int = 0
    detections_per_class: int | None = None

    def detections(
        self,
        boxes: Tensor,
        scores: Tensor,
        extent: Tensor,
        *,
        levels: Sequence[int] = (),
        kept: Kept | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The detections of a batch.

        Args:
            boxes: The decoded boxes (B, N, 4), xyxy, in pixels of the frame; or (B, N, C, 4) where
                each class has its own.
            scores: The scores (B, N, C) of all columns.
            extent: What boxes are clipped to, as the largest x1, y1, x2 and y2: (4,) or (B, 1, 4).
            levels: The number of boxes of each level. Default: as they are stated.
            kept: What says of candidates which ones suppression keeps, (B, K), given the IoU.
                Default (None): :func:`kept_of_images`.

        Returns:
            The ``boxes`` (B, D, 4), ``scores`` (B, D) and ``labels`` (B, D), best first. Where an
            image has fewer detections, or one was dropped at the end, the label is 0.
        """
        found = self.candidates(boxes, scores, levels or self.levels)
        return self.chosen(found, extent, kept or kept_of_images)

    def chosen(
        self, found: Candidates, extent: Tensor, kept: Kept
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The detections among candidates, as :meth:`detections` gives them.

        Args:
            found: The candidates.
            extent: What boxes are clipped to, (4,) or (B, 1, 4).
            kept: What says of candidates which ones suppression keeps, (B, K), given the IoU.

        Returns:
            The ``boxes`` (B, D, 4), ``scores`` (B, D) and ``labels`` (B, D).
        """
        if self.clip_first:
            found = self._clipped(found, extent)
        alive = found.scores >= 0
        if self.nms_threshold is not None:
            alive = kept(found, self.nms_threshold) & alive
        best = torch.where(alive, found.scores, _NOTHING)
        best, order = best.topk(_fewer(self.detections_per_image, best.shape[1]), dim=1)
        found = Candidates(_taken(found.boxes, order), best, found.labels.gather(1, order))
        if not self.clip_first:
            found = self._clipped(found, extent)
        alive = found.scores >= 0
        if self.detections_per_class is not None:
            alive = alive & (self._rank(found) <= self.detections_per_class)
        return (
            torch.where(alive[..., None], found.boxes, 0.0),
            torch.where(alive, found.scores, 0.0),
            torch.where(alive, found.labels, 0),
        )

    def candidates(self, boxes: Tensor, scores: Tensor, levels: Sequence[int]) -> Candidates:
        """What enters suppression, of the boxes and the scores that :meth:`detections` takes."""
        names = torch.tensor(self.labels, device=scores.device)
        if self.best_class:
            scores, column = scores.max(dim=2, keepdim=True)
            labels = names[column]
        else:
            labels = names.expand_as(scores)
        scores = torch.where(scores > self.score_threshold, scores, _NOTHING)
        parts = [Candidates(boxes, scores, labels)]
        if self.topk_of == "level":
            pieces = (torch.split(value, list(levels), dim=1) for value in parts[0])
            parts = [Candidates(*piece) for piece in zip(*pieces, strict=True)]
        elif self.topk_of == "class":
            columns = range(scores.shape[2])
            parts = [
                Candidates(_of_column(boxes, k), scores[:, :, k : k + 1], labels[:, :, k : k + 1])
                for k in columns
            ]
        best = [self._best(part) for part in parts]
        return Candidates(*(torch.cat(each, dim=1) for each in zip(*best, strict=True)))

    def _best(self, part: Candidates) -> Candidates:
        """The best pairs of box and class: (B, n, C) -> (B, k)."""
        columns = part.scores.shape[2]
        scores, labels = part.scores.flatten(1), part.labels.flatten(1)
        each_own = part.boxes.dim() == 4
        boxes = part.boxes.flatten(1, 2) if each_own else part.boxes
        if self.topk is None:
            if not each_own:
                boxes = boxes.repeat_interleave(columns, dim=1)
            return Candidates(boxes, scores, labels)
        scores, order = scores.topk(_fewer(self.topk, scores.shape[1]), dim=1)
        rows = order if each_own else order // columns
        return Candidates(_taken(boxes, rows), scores, labels.gather(1, order))

    def _clipped(self, found: Candidates, extent: Tensor) -> Candidates:
        least = float(self.least)
        low = torch.tensor([0.0, 0.0, least, least], device=extent.device)
        high = extent - torch.tensor([least, least, 0.0, 0.0], device=extent.device)
        boxes = found.boxes.maximum(low).minimum(high)
        if self.smallest is None:
            return found._replace(boxes=boxes)
        sides = boxes[..., 2:] - boxes[..., :2]
        large = sides >= self.smallest if self.smallest else sides > 0
        return found._replace(
            boxes=boxes, scores=torch.where(large.all(dim=-1), found.scores, _NOTHING)
        )

    def _rank(self, found: Candidates) -> Tensor:
        """The place of each candidate among the better ones of its class, from 1: (B, K)."""
        same = found.labels[:, :, None] == found.labels[:, None, :]  # (B, K, K)
        return same.tril().sum(dim=2)


def kept_of_images(found: Candidates, threshold: float) -> Tensor:
    """Non-maximum suppression within each class, image by image.

    Classes are kept apart by offsets, in float64, which rounds nothing.

    Args:
        found: The candidates.
        threshold: The IoU above which the lower of two candidates of a class is dropped.

    Returns:
        Whether each candidate is kept, (B, K).
    """
    rows = []
    for boxes, scores, labels in zip(*found, strict=True):
        candidate = (scores >= 0).nonzero()[:, 0]
        moved = apart(boxes.double(), labels)[candidate]
        kept = candidate[nms(moved, scores[candidate].double(), threshold)]
        rows.append(torch.zeros_like(scores, dtype=torch.bool).scatter(0, kept, scores[kept] >= 0))
    return torch.stack(rows)


def apart(boxes: Tensor, labels: Tensor) -> Tensor:
    """Boxes (..., K, 4) that are moved so that those of different labels (..., K) do not meet."""
    step = boxes.amax(dim=(-2, -1)) - boxes.amin(dim=(-2, -1)) + 1
    return boxes + (labels * step[..., None])[..., None]


def _taken(boxes: Tensor, rows: Tensor) -> Tensor:
    """The boxes (B, k, 4) of rows (B, k)."""
    return boxes.gather(1, rows[..., None].expand(-1, -1, 4))


def _of_column(boxes: Tensor, column: int) -> Tensor:
    return boxes if boxes.dim() == 3 else boxes[:, :, column : column + 1]


def _fewer(most: int, there: Any) -> Any:
    """The smaller of two numbers, of which the second may be one of a graph's or of a trace's."""
    return torch.sym_min(most, there) if isinstance(there, torch.SymInt) else min(most, int(there))
