"""KITTI's average precision, as the object benchmark's evaluation program computes it.

The program matches twice. The first matching, without a threshold on scores, finds the scores at
which recall passes multiples of 1/40; the second counts right and wrong boxes at each of them. It
goes over an image's objects one after another, each taking a box that is left. Here the j-th
objects of all images go together, at all thresholds at once, over the pairs that overlap enough.

Source: Geiger, Lenz, Urtasun, "Are we ready for autonomous driving? The KITTI vision benchmark
suite", CVPR 2012; 40 points: Simonelli et al., "Disentangling monocular 3D object detection",
ICCV 2019.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.metrics.detections import Boxes, DetectionMetric, Fields

RECALLS = 41  # 0, 1/40, ..., 1
OVERLAPS = {"car": 0.7}
OTHER_OVERLAP = 0.5


@dataclass(frozen=True)
class Level:
    """Which objects count at a level of difficulty.

    Attributes:
        name: The name of the level.
        height: The smallest height of an object in pixels.
        occlusion: The largest level of occlusion.
        truncation: The largest part of an object that lies outside of its image.
    """

    name: str
    height: float
    occlusion: int
    truncation: float


LEVELS = (
    Level("easy", 40, 0, 0.15),
    Level("moderate", 25, 1, 0.30),
    Level("hard", 25, 2, 0.50),
)
HIGHEST = max(level.height for level in LEVELS)


class KITTIAveragePrecision(DetectionMetric):
    """The mean over classes and levels (easy, moderate, hard) of the average precision.

    A match needs an IoU of more than 0.7 for cars, 0.5 for others. Objects beyond a level's bounds
    and targets with ``iscrowd`` (the neighbours: vans for cars, sitting persons for pedestrians)
    are not counted, and a box that matches one is neither right nor wrong. Nor is a box that lies
    by more than the same fraction of its own area in a region that nobody labelled: a target of
    its class with ``occlusion`` -1, KITTI's DontCare.

    Boxes and truncation are taken to hundredths, as KITTI's files hold them. An image's targets
    and predictions have to be in the order of their files, which decides between equals.

    Args:
        classes: The names of the classes; label ``i + 1`` is ``classes[i]``.
        rules: The rules of the program. By "today", boxes that are lower than a level's minimum are
            not counted, and objects have to be higher than it. By "2012", which papers up to 2019
            used, low boxes are wrong, and objects of exactly the minimum count.
        points: The number of recalls that precision is averaged over, 11 (0, 0.1, ..., 1) or 40
            (1/40, ..., 1). Default (None): 40 by the rules of today, 11 by those of 2012.

    Attributes:
        headline: The name of the score that judges a run, which is ``mAP``.
        optional_fields: The fields ``iscrowd``, ``truncation`` and ``occlusion``.
        classes: The names of the classes.

    Raises:
        ValueError: ``rules`` or ``points`` is none of these.
    """

    headline = "mAP"
    optional_fields: ClassVar[Fields] = {
        "iscrowd": torch.long,
        "truncation": torch.float,
        "occlusion": torch.long,
    }
    classes: tuple[str, ...]

    def __init__(
        self,
        classes: Sequence[str],
        *,
        rules: Literal["today", "2012"] = "today",
        points: Literal[11, 40] | None = None,
    ) -> None:
        super().__init__(classes)
        if rules not in ("today", "2012"):
            raise ValueError(
                f"rules is {rules!r}; expected 'today' (boxes that are too low are not counted) or "
                "'2012' (they are wrong)"
            )
        if points not in (11, 40, None):
            raise ValueError(
                f"points is {points!r}; expected 11, 40, or None for the number of the rules' time"
            )
        self.rules = rules
        self.points = points or (40 if rules == "today" else 11)

    def compute(self) -> dict[str, Tensor]:
        """Compute the scores of all images so far.

        Returns:
            The mean ``mAP`` and ``AP/<name>/<level>``: scalars from 0 to 1. As in the program, a
            class without predictions has 0, a level without counted objects has 0, and with fewer
            than 41 of them thresholds run out and even a perfect detector stays below 1.
        """
        points = points_of(self.points)
        scores = {f"AP/{name}": c[points].mean().float() for name, c in self.curves().items()}
        scores = {"mAP": torch.stack(list(scores.values())).mean(), **scores}
        return {name: score.to(self.device) for name, score in scores.items()}

    def curves(self) -> dict[str, Tensor]:
        """Compute the best precision at or above the recalls 0, 1/40, ..., 1.

        Returns:
            The precisions by ``<name>/<level>``, (41,) each. They are 0 beyond the highest recall
            that was reached, and where no box at a threshold is right or wrong (the program divides
            0 by 0 there).
        """
        return {name: _curve(at_level) for name, at_level in self.at_levels()}

    def at_levels(self) -> Iterator[tuple[str, "AtLevel"]]:
        """The objects and boxes of each class at each level, with the name ``<name>/<level>``."""
        found, truth = self.rows()
        found["boxes"], truth["boxes"], truth["truncation"] = (
            _hundredths(values) for values in (found["boxes"], truth["boxes"], truth["truncation"])
        )
        today = self.rules == "today"
        for label, name in enumerate(self.classes, 1):
            overlapping = _Overlapping.of(found, truth, label, _needed(name), today)
            for level in LEVELS:
                yield f"{name}/{level.name}", AtLevel.of(overlapping, level, today)


def points_of(count: int) -> slice:
    """The recalls that precision is averaged over, of 41: 11 (every fourth) or 40 (not the 0)."""
    return slice(0, None, 4) if count == 11 else slice(1, None)


def recall_thresholds(scores: Tensor, positives: int) -> Tensor:
    """The scores at which recall comes nearest to 1/40, 2/40, and so on.

    Args:
        scores: The scores of the boxes that are right, (N,).
        positives: The number of objects that count.

    Returns:
        At most 41 of the scores, falling.
    """
    ordered = scores.sort(descending=True).values
    kept, recall = [], 0.0
    for index in range(len(ordered)):
        here, after = (index + 1) / positives, (index + 2) / positives
        last = index == len(ordered) - 1
        if last or after - recall >= recall - here:
            kept.append(index)
            recall += 1 / (RECALLS - 1)
    return ordered[kept]


@dataclass(frozen=True)
class _Overlapping:
    """The objects (G) and boxes (D) that can match for one class, and the pairs (P) that do.

    ``others`` are boxes of other classes: today's program lets an object take those that are too
    low when it looks for thresholds.
    """

    objects: Boxes
    boxes: Boxes
    others: Tensor  # (D,) bool
    unlabelled: Tensor  # (D,) bool: lies in a region that nobody labelled
    pairs: Tensor  # (2, P): object, box
    iou: Tensor  # (P,)

    @classmethod
    def of(
        cls, found: Boxes, truth: Boxes, label: int, needed: float, today: bool
    ) -> "_Overlapping":
        """The pairs of a class that overlap by more than ``needed``."""
        others = (found["labels"] != label) & (found["labels"] > 0)
        kept = (found["labels"] == label) | (others & _low(found, HIGHEST) & today)
        boxes = _where(found, kept)
        mine = truth["labels"] == label
        objects = _where(truth, mine & (truth["occlusion"] >= 0))
        regions = _where(truth, mine & (truth["occlusion"] < 0))
        pairs = _same_image(objects, boxes)
        shared, first, second = _areas(objects, boxes, pairs)
        iou = shared / (first + second - shared)
        inside = _same_image(regions, boxes)
        part, _, area = _areas(regions, boxes, inside)
        unlabelled = torch.zeros(len(boxes["labels"]), dtype=torch.bool)
        unlabelled[inside[1, part / area > needed]] = True
        enough = iou > needed
        return cls(objects, boxes, others[kept], unlabelled, pairs[:, enough], iou[enough])


@dataclass(frozen=True)
class AtLevel:
    """The G objects and D boxes of one class, and what they count for at one level of difficulty.

    Attributes:
        overlapping: The objects, the boxes, and which of them can match.
        counted: Whether each object counts, bool (G,).
        valid: Whether each box is right or wrong where it is not ignored, bool (D,).
        low: Whether each box is too low, bool (D,).
    """

    overlapping: _Overlapping
    counted: Tensor
    valid: Tensor
    low: Tensor

    @classmethod
    def of(cls, overlapping: _Overlapping, level: Level, today: bool) -> "AtLevel":
        """Apply a level's bounds.

        Args:
            overlapping: The objects and boxes of a class.
            level: The level.
            today: Whether the rules are those of today.

        Returns:
            The objects and boxes at the level.
        """
        objects = overlapping.objects
        outside = objects["occlusion"] > level.occlusion
        outside |= objects["truncation"] > level.truncation
        outside |= _low(objects, level.height)
        if today:
            outside |= _height(objects) == level.height
        counted = ~outside & (objects["iscrowd"] == 0)
        low = _low(overlapping.boxes, level.height) & today
        return cls(overlapping, counted, ~low & ~overlapping.others, low)

    def right(self) -> Tensor:
        """The boxes that are right where every score will do: the first matching, (R,)."""
        scores, pairs = self.overlapping.boxes["scores"], self.overlapping.pairs
        by_score = _rounds(self.overlapping, -scores[pairs[1]])
        taken, _ = _take(by_score, len(self.counted), (self.valid | self.low)[None])
        taken = taken[0, self.counted]
        right = taken[taken >= 0]
        return right[self.valid[right]]

    def judged(self, thresholds: Tensor) -> tuple[Tensor, Tensor]:
        """Find what is right and what is wrong at thresholds on scores: the second matching.

        Args:
            thresholds: The thresholds, (T, 1), or those of each box, (T, D).

        Returns:
            Whether each of the counted objects is found, bool (T, counted); whether each box is
            wrong, bool (T, D).
        """
        # Boxes that are too low are left out from here on: an object takes one only if it has no
        # other, and whether it does changes neither what is right nor what is wrong.
        free = (self.overlapping.boxes["scores"] >= thresholds) & self.valid
        by_iou = _rounds(self.overlapping, -self.overlapping.iou)
        taken, left = _take(by_iou, len(self.counted), free)
        return taken[:, self.counted] >= 0, left & ~self.overlapping.unlabelled


def _curve(at_level: AtLevel) -> Tensor:
    """The best precision at or above each recall, (41,) float64."""
    scores = at_level.overlapping.boxes["scores"][at_level.right()]
    thresholds = recall_thresholds(scores, int(at_level.counted.sum()))
    found, wrong = at_level.judged(thresholds[:, None])
    rights = found.sum(dim=1).double()
    precision = rights / (rights + wrong.sum(dim=1)).clamp(min=1)
    return F.pad(precision, (0, RECALLS - len(precision))).flip(0).cummax(dim=0).values.flip(0)


def _rounds(overlapping: _Overlapping, preference: Tensor) -> list[Tensor]:
    """The pairs of the first objects of all images, of the second ones, and so on.

    Within a round, an object's pairs are together, the lowest preference first, then the first box.
    """
    image = overlapping.objects["image"]
    number = torch.arange(len(image)) - torch.searchsorted(image, image)  # within the image
    objects = overlapping.pairs[0]
    order = preference.argsort(stable=True)  # pairs of one object are in the order of its boxes
    order = order[objects[order].argsort(stable=True)]
    order = order[number[objects[order]].argsort(stable=True)]
    ordered = overlapping.pairs[:, order]
    sizes = number[objects].bincount().tolist()
    return list(torch.split(ordered, sizes, dim=1)) if sizes else []


def _take(rounds: list[Tensor], objects: int, free: Tensor) -> tuple[Tensor, Tensor]:
    """Each object takes, at each threshold, the first of its boxes that is free.

    Args:
        rounds: The pairs of each round, from :func:`_rounds`.
        objects: The number of objects, G.
        free: The boxes that may be taken at each threshold, (T, D).

    Returns:
        The box that each object took or -1, (T, G); the boxes that are still free, (T, D).
    """
    free = free.clone()
    taken = torch.full((len(free), objects), -1)
    for pairs in rounds:
        threshold, index = free[:, pairs[1]].nonzero(as_tuple=True)
        claims = torch.stack([threshold, pairs[0, index]])
        first = (claims.diff(dim=1, prepend=claims.new_full((2, 1), -1)) != 0).any(dim=0)
        threshold, (taker, box) = threshold[first], pairs[:, index[first]]
        taken[threshold, taker] = box
        free[threshold, box] = False
    return taken, free


def _same_image(first: Boxes, second: Boxes) -> Tensor:
    """All pairs of rows, in order, (2, P). Rows are in the order of their images."""
    start = torch.searchsorted(second["image"], first["image"])
    count = torch.searchsorted(second["image"], first["image"], right=True) - start
    rows = torch.arange(len(count)).repeat_interleave(count)
    skipped = (start - count.cumsum(0) + count)[rows]
    return torch.stack([rows, torch.arange(len(rows)) + skipped])


def _areas(first: Boxes, second: Boxes, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The area that each pair shares, that of the first, and that of the second, (P,) each."""
    one, other = first["boxes"][pairs[0]], second["boxes"][pairs[1]]
    upper_left = torch.maximum(one[:, :2], other[:, :2])
    lower_right = torch.minimum(one[:, 2:], other[:, 2:])
    shared = (lower_right - upper_left).clamp(min=0).prod(dim=1)
    first_area, second_area = ((box[:, 2:] - box[:, :2]).prod(dim=1) for box in (one, other))
    return shared, first_area, second_area


def _where(rows: Boxes, mask: Tensor) -> Boxes:
    return {field: values[mask] for field, values in rows.items()}


def _low(rows: Boxes, height: float) -> Tensor:
    return _height(rows) < height


def _height(rows: Boxes) -> Tensor:
    boxes = rows["boxes"]
    return boxes[:, 3] - boxes[:, 1]


def _needed(name: str) -> float:
    return OVERLAPS.get(name.lower(), OTHER_OVERLAP)


def _hundredths(values: Tensor) -> Tensor:
    """The decimals of a file in float64, as float32 would move values across a bound."""
    return (values.double() * 100).round() / 100
