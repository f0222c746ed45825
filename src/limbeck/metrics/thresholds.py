"""The score from which on a detector's boxes are taken, class by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_area

from limbeck.metrics.detections import Boxes
from limbeck.metrics.voc import (
    IGNORED,
    RIGHT,
    WRONG,
    average_precision_area,
    match,
    precision_recall,
)

IOU = 0.5  # that a box has to exceed with an object


@dataclass(frozen=True)
class Threshold:
    """From which score on boxes of a class are taken, and how right they are on labelled images.

    Attributes:
        score: The lowest score that is taken. None: no box of the class was right.
        f1: The harmonic mean of precision and recall there, the greatest of any score.
        precision: The share of the boxes that are right.
        recall: The share of the objects that are found.
        ap: The average precision over all scores: the area under the curve, at an IoU above 0.5.
        objects: The number of labelled objects.
    """

    score: float | None
    f1: float
    precision: float
    recall: float
    ap: float
    objects: int


def best_thresholds(
    images: Sequence[tuple[Boxes, Mapping[str, Tensor]]], classes: Sequence[str]
) -> dict[str, Threshold]:
    """Choose for each class the score with the greatest F1, at an IoU above 0.5.

    Objects that are crowds, ignored or difficult count neither as found nor as missed, as PASCAL
    VOC's evaluator has it, and a box of which more than half lies in a crowd of its class is not
    wrong, as COCO's has it.

    Args:
        images: The predictions (``boxes``, ``scores``, ``labels``) and the target of each image.
        classes: The names of the classes; label ``i + 1`` is ``classes[i]``.

    Returns:
        The threshold of each class that has labelled objects. Where several scores have one F1, it
        is the highest.
    """
    empty = torch.zeros(0)
    verdicts, scores, labels, wanted = [empty], [empty], [empty], [empty]
    for found, target in images:
        crowd = target.get("iscrowd", torch.zeros_like(target["labels"])) != 0
        ignored = crowd | target.get("difficult", torch.zeros_like(crowd)).bool()
        truth = {"boxes": target["boxes"], "labels": target["labels"], "difficult": ignored}
        verdict = match(found, truth, IOU)
        in_crowd = _in_crowd(found, target["boxes"][crowd], target["labels"][crowd])
        verdict[(verdict == WRONG) & in_crowd] = IGNORED
        verdicts.append(verdict)
        scores.append(found["scores"])
        labels.append(found["labels"])
        wanted.append(target["labels"][~ignored])
    verdict, score, label = torch.cat(verdicts), torch.cat(scores), torch.cat(labels)
    objects = torch.cat(wanted)
    chosen = {}
    for number, name in enumerate(classes, 1):
        rows, count = label == number, int((objects == number).sum())
        if count:
            chosen[name] = _best(score[rows], verdict[rows], count)
    return chosen


def _in_crowd(found: Boxes, crowds: Tensor, labels: Tensor) -> Tensor:
    """Which boxes lie in one of the crowds (M, 4) of their class, by the half of their area."""
    boxes = found["boxes"]
    shared = torch.minimum(boxes[:, None, 2:], crowds[None, :, 2:])
    shared = shared - torch.maximum(boxes[:, None, :2], crowds[None, :, :2])
    areas = shared.clamp(min=0).prod(dim=2)
    inside = areas > IOU * box_area(boxes)[:, None]
    covered: Tensor = (inside & (found["labels"][:, None] == labels)).any(dim=1)
    return covered


def _best(scores: Tensor, verdicts: Tensor, objects: int) -> Threshold:
    counted = verdicts != IGNORED
    scores, verdicts = scores[counted], verdicts[counted]
    recall, precision = precision_recall(scores, verdicts, objects)
    ap = float(average_precision_area(recall, precision))
    falling, order = scores.sort(descending=True, stable=True)
    right = (verdicts[order] == RIGHT).cumsum(0)
    wrong = (verdicts[order] == WRONG).cumsum(0)
    f1 = 2 * right / (right + wrong + objects)
    f1[:-1][falling[:-1] == falling[1:]] = 0  # boxes of one score are taken together
    if not len(f1) or not f1.max() > 0:
        return Threshold(None, 0.0, 0.0, 0.0, ap, objects)
    at = int(f1.argmax())
    return Threshold(
        float(falling[at]), float(f1[at]), float(precision[at]), float(recall[at]), ap, objects
    )
