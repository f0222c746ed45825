"""Whether an exported file finds what PyTorch finds, on the same images in the same frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from limbeck.exported import ExportedModel
from limbeck.frame import network_frame
from limbeck.report.agreement import NEAR_BOX, NEAR_SCORE

_HALF_BOX, _HALF_SCORE = 2.0, 0.02
SCORE, IOU = 0.3, 0.5  # of detections that count, and of those that are one and the same
LEAST = 0.9  # the share that has to be found by the other side, too
MOST = 0.05  # the mean difference of scores or probabilities
_BEST = 100  # boxes of an image that are compared before suppression


@dataclass(frozen=True)
class Tolerance:
    """How far an exported file may be from PyTorch.

    Attributes:
        boxes: The largest difference of a coordinate of a box, in pixels of the frame. Default
            (None): 0.5, and 2 with half precision.
        scores: The largest difference of a score, or of a classifier's probability. Default (None):
            0.001, and 0.02 with half precision.
    """

    boxes: float | None = None
    scores: float | None = None

    def settled(self, *, half: bool) -> "Tolerance":
        """The tolerance with none left open."""
        usual = (_HALF_BOX, _HALF_SCORE) if half else (NEAR_BOX, NEAR_SCORE)
        boxes = usual[0] if self.boxes is None else self.boxes
        return Tolerance(boxes, usual[1] if self.scores is None else self.scores)


@dataclass(frozen=True)
class Agreement:
    """How far the two sides agree.

    Attributes:
        found: The number of detections of either side with a score of ``SCORE`` or more; of a
            classifier, the number of images.
        both: The number of those that the other side has, too; of a classifier, the images of which
            both say the same class.
        difference: The mean difference of the scores of those that both have, or of probabilities.
    """

    found: int
    both: int
    difference: float

    @property
    def near(self) -> bool:
        """Whether that is as near as rounding lets it be."""
        return self.both >= LEAST * self.found and self.difference <= MOST

    def __str__(self) -> str:
        return (
            f"rounded to INT8: {self.both} of {self.found} found by both sides, mean difference of "
            f"scores {self.difference:.2g}"
        )


@dataclass(frozen=True)
class Checked:
    """What a check has compared.

    Attributes:
        images: The number of images.
        detections: The number of PyTorch's detections on all of them.
        unmatched: The number of detections, of either side, that the other side does not have, and
            which are not at the limit of what is given at all.
        boxes: The largest difference of a coordinate of matched boxes, in pixels.
        scores: The largest difference of matched scores, or of probabilities.
        dense: The number of boxes that were compared before suppression.
        rounded: How far a quantized student and its file agree; the rest is then of both without
            rounding. None: it is in floats.
    """

    images: int
    detections: int = 0
    unmatched: int = 0
    boxes: float = 0.0
    scores: float = 0.0
    dense: int = 0
    rounded: Agreement | None = None

    def __add__(self, other: "Checked") -> "Checked":
        """What two checks have compared."""
        return Checked(
            self.images + other.images,
            self.detections + other.detections,
            self.unmatched + other.unmatched,
            _greatest(self.boxes, other.boxes),
            _greatest(self.scores, other.scores),
            self.dense + other.dense,
            self.rounded or other.rounded,
        )

    def within(self, tolerance: Tolerance) -> bool:
        """Whether all was found, within the tolerance; what is NaN is not."""
        near = self.boxes <= (tolerance.boxes or 0) and self.scores <= (tolerance.scores or 0)
        return near and not self.unmatched


@torch.inference_mode()
def check_classifier(
    model: nn.Module, exported: ExportedModel, images: Sequence[Tensor]
) -> Checked:
    """Compare a classifier with its file.

    Args:
        model: The classifier, in evaluation mode, on the CPU.
        exported: Its file.
        images: The images, (3, H, W) each, RGB in [0, 1].

    Returns:
        What was compared: the largest difference of probabilities.
    """
    found = Checked(0)
    for batch in batches(exported, images):
        expected = model(batch).softmax(-1)
        given = exported.outputs(batch)["logits"].softmax(-1)
        found += Checked(len(batch), scores=_largest(expected, given))
    return found


@torch.inference_mode()
def check_detector(
    model: nn.Module, exported: ExportedModel, images: Sequence[Tensor], tolerance: Tolerance
) -> Checked:
    """Compare a detector with its file, in its runtime, detection by detection.

    Args:
        model: The detector, in evaluation mode, on the CPU.
        exported: Its file.
        images: The images, (3, H, W) each, RGB in [0, 1].
        tolerance: Within which two detections of a class are the same one.

    Returns:
        What was compared.
    """
    found = Checked(0)
    for ours, theirs, most in found_by_both(model, exported, images):
        found += _matched(ours, theirs, tolerance, exported, most)
    return found


def found_by_both(
    model: nn.Module, exported: ExportedModel, images: Sequence[Tensor]
) -> Iterator[tuple["Found", "Found", int]]:
    """What a detector and its file find on the same images in the same frame.

    Args:
        model: The detector, in evaluation mode, on the CPU.
        exported: Its file.
        images: The images, (3, H, W) each, RGB in [0, 1].

    Yields:
        What the detector finds on an image, what the file finds, and how much the file can find.
    """
    for batch in batches(exported, images):
        with network_frame(model):
            expected = model(list(batch))
        given = zip(*exported.detections(exported.outputs(batch), batch), strict=True)
        for one, (boxes, scores, labels) in zip(expected, given, strict=True):
            there, known = labels > 0, one["labels"] > 0
            ours = Found(*(one[name][known] for name in ("boxes", "scores", "labels")))
            yield ours, Found(boxes[there], scores[there], labels[there].long()), len(labels)


@torch.inference_mode()
def check_dense(dense: nn.Module, exported: ExportedModel, images: Sequence[Tensor]) -> Checked:
    """Compare all scores, and the best boxes, of a file that gives them before suppression.

    Args:
        dense: What was exported, in PyTorch, in float32.
        exported: The file.
        images: The images, (3, H, W) each, RGB in [0, 1].

    Returns:
        What was compared.
    """
    found = Checked(0)
    for batch in batches(exported, images):
        boxes, scores = dense(batch)
        given = exported.outputs(batch)
        best = scores.amax(-1)
        order = best.topk(min(_BEST, best.shape[1]), dim=1).indices
        pairs = [
            (of_image[rows], others[rows])
            for of_image, others, rows in zip(boxes, given["boxes"], order, strict=True)
        ]
        found += Checked(
            len(batch),
            boxes=_greatest(*(_largest(*pair) for pair in pairs)),
            scores=_largest(scores, given["scores"]),
            dense=order.numel(),
        )
    return found


def batches(exported: ExportedModel, images: Sequence[Tensor]) -> list[Tensor]:
    """Framed images, as many at once as the file takes.

    Where that is any number, they are two and, at the end of an odd number, one; where the frame
    has any size, each is by itself.

    Args:
        exported: The file.
        images: The images, (3, H, W) each, RGB in [0, 1].

    Returns:
        The batches (B, 3, H, W).
    """
    said = exported.description
    count = 1 if said.framing.size is None else said.batch or 2
    return [exported.framed(images[at : at + count])[0] for at in range(0, len(images), count)]


@dataclass(frozen=True)
class Found:
    """Detections on one image.

    Attributes:
        boxes: The boxes (N, 4), xyxy in pixels of the frame.
        scores: Their scores, (N,).
        labels: Their classes, (N,), from 1.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def _matched(
    ours: Found, theirs: Found, tolerance: Tolerance, exported: ExportedModel, most: int
) -> Checked:
    """Match two lists of detections one to one, by the nearest boxes and scores of a class."""
    boxes = (ours.boxes[:, None] - theirs.boxes).abs().amax(dim=2)
    scores = (ours.scores[:, None] - theirs.scores).abs()
    near = (boxes <= (tolerance.boxes or 0)) & (scores <= (tolerance.scores or 0))
    near &= ours.labels[:, None] == theirs.labels
    apart = boxes.nan_to_num(nan=torch.finfo(boxes.dtype).max)  # SciPy takes neither NaN nor inf
    cost = torch.where(near, 0.0, 1.0) + apart / (apart.max() + 1 if apart.numel() else 1) * 1e-3
    rows, columns = (torch.as_tensor(each) for each in linear_sum_assignment(cost.numpy()))
    right = near[rows, columns]
    rows, columns = rows[right], columns[right]
    lost = _of_weight(ours, rows, tolerance, exported, most)
    lost += _of_weight(theirs, columns, tolerance, exported, most)
    return Checked(
        1,
        len(ours.scores),
        lost,
        _most(boxes[rows, columns]),
        _most(scores[rows, columns]),
    )


def _of_weight(
    found: Found, matched: Tensor, tolerance: Tolerance, exported: ExportedModel, most: int
) -> int:
    """The number of unmatched detections that are not at the limit of what is given at all."""
    suppression: Any = exported.description.suppression
    unmatched = torch.ones_like(found.scores, dtype=torch.bool)
    unmatched[matched] = False
    limit = suppression.score_threshold
    if len(found.scores) >= most:  # the list is full
        limit = max(limit, float(found.scores.min()))
    at_limit = found.scores <= limit + (tolerance.scores or 0)  # which NaN is not
    at_limit &= found.boxes.isfinite().all(dim=1)
    return int((unmatched & ~at_limit).sum())


def _largest(first: Tensor, second: Tensor) -> float:
    return _most((first - second).abs())


def _most(values: Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0


def _greatest(*values: float) -> float:
    """The greatest of some numbers; NaN where one is, which Python's ``max`` may lose."""
    return float(torch.tensor(values, dtype=torch.float64).max())
