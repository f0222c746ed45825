"""PASCAL VOC's average precision, as its development kit computes it.

The kit counts pixels inclusively from 1. Boxes here are exclusive and count from 0: its box
(x1, y1, x2, y2) is (x1 - 1, y1 - 1, x2, y2) here, and the "+ 1" of its widths is gone.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from limbeck.metrics.detections import Boxes, DetectionMetric, Fields

RIGHT, WRONG, IGNORED = 1, 0, -1


class VOCAveragePrecision(DetectionMetric):
    """The mean over classes of the average precision at one IoU threshold.

    A target with ``difficult`` is not counted, and a box that matches it is neither right nor
    wrong. A second box on one target is wrong.

    Source: Everingham et al., "The PASCAL Visual Object Classes Challenge", 2010, section 4.2.

    Args:
        classes: The names of the classes; label ``i + 1`` is ``classes[i]``.
        interpolation: How the curve of precision over recall becomes one number: "11-point" as in
            VOC2007, or "area" (under the envelope of the curve) as from VOC2010 on.
        iou_threshold: The IoU that a match has to exceed.

    Attributes:
        headline: The name of the score that judges a run, which is ``mAP``.
        optional_fields: The field ``difficult``.
        classes: The names of the classes.

    Raises:
        ValueError: ``interpolation`` is none of these.
    """

    headline = "mAP"
    optional_fields: ClassVar[Fields] = {"difficult": torch.bool}
    classes: tuple[str, ...]

    def __init__(
        self,
        classes: Sequence[str],
        *,
        interpolation: Literal["11-point", "area"] = "11-point",
        iou_threshold: float = 0.5,
    ) -> None:
        super().__init__(classes)
        if interpolation not in ("11-point", "area"):
            raise ValueError(
                f"interpolation is {interpolation!r}; expected '11-point' (VOC2007) or 'area' "
                "(VOC2010 and later)"
            )
        self.interpolation = interpolation
        self.iou_threshold = iou_threshold

    def compute(self) -> dict[str, Tensor]:
        """Compute the scores of all images so far.

        Returns:
            The mean ``mAP`` and ``AP/<name>`` of each class: scalars from 0 to 1. As in the kit,
            a class without predictions has 0; one with predictions but without a counted target
            has 0 by 11 points, and NaN by area, which makes the mean NaN as well.
        """
        average = (
            average_precision_11_point
            if self.interpolation == "11-point"
            else average_precision_area
        )
        curves = self.curves()
        scores = {f"AP/{name}": average(*curve).float() for name, curve in curves.items()}
        scores = {"mAP": torch.stack(list(scores.values())).mean(), **scores}
        return {name: score.to(self.device) for name, score in scores.items()}

    def curves(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The (recall, precision) of each class, with a value for each box by falling score."""
        images = self.images()
        verdicts = _cat([match(*image, self.iou_threshold) for image in images])
        scores = _cat([prediction["scores"] for prediction, _ in images])
        labels = _cat([prediction["labels"] for prediction, _ in images])
        wanted = _cat([target["labels"][~target["difficult"]] for _, target in images])
        return {
            name: precision_recall(
                scores[labels == label], verdicts[labels == label], int((wanted == label).sum())
            )
            for label, name in enumerate(self.classes, 1)
        }


def match(prediction: Boxes, target: Boxes, iou_threshold: float) -> Tensor:
    """Judge the boxes of one image, the highest score first.

    Args:
        prediction: The predictions: ``boxes`` (N, 4), ``scores`` (N,) and ``labels`` (N,).
        target: The target: ``boxes`` (M, 4), ``labels`` (M,) and ``difficult``, bool (M,).
        iou_threshold: The IoU that a match has to exceed.

    Returns:
        RIGHT, WRONG, or IGNORED for a match with a difficult target, of each box, int64 (N,).
    """
    order = prediction["scores"].argsort(descending=True, stable=True)
    verdicts = torch.full_like(order, WRONG)
    if len(order) == 0 or len(target["labels"]) == 0:
        return verdicts
    iou = box_iou(prediction["boxes"][order].double(), target["boxes"].double())  # (N, M)
    iou[prediction["labels"][order][:, None] != target["labels"]] = 0
    best, matched = iou.max(dim=1)
    hit = best > iou_threshold
    claims = F.one_hot(matched, iou.shape[1]) * hit[:, None]  # (N, M)
    first = ((claims.cumsum(dim=0) == 1) & (claims == 1)).any(dim=1)
    verdicts[order[first]] = RIGHT
    verdicts[order[hit & target["difficult"][matched]]] = IGNORED
    return verdicts


def precision_recall(scores: Tensor, verdicts: Tensor, positives: int) -> tuple[Tensor, Tensor]:
    """The curve of precision over recall of one class.

    Args:
        scores: The scores of its boxes, (N,).
        verdicts: RIGHT, WRONG or IGNORED for each box, (N,).
        positives: The number of targets that count.

    Returns:
        The recall and the precision, each float64 (N,), in the order of falling scores. Recall is
        NaN where ``positives`` is 0.
    """
    ordered = verdicts[scores.argsort(descending=True, stable=True)]
    right = (ordered == RIGHT).cumsum(dim=0).double()
    wrong = (ordered == WRONG).cumsum(dim=0).double()
    return right / positives, right / (right + wrong).clamp(min=1)


def average_precision_11_point(recall: Tensor, precision: Tensor) -> Tensor:
    """The mean of the best precision at or above the recalls 0, 0.1, ..., 1 (VOC2007).

    Args:
        recall: The recall at each box, (N,).
        precision: The precision at each box, (N,).

    Returns:
        The mean, a scalar.
    """
    # Multiples of a float step as in the kit: 3 * 0.1 is above 0.3, which a recall of 0.3 misses.
    thresholds = torch.arange(11, dtype=torch.float64) * 0.1
    reached = torch.where(recall >= thresholds[:, None], precision, 0.0)  # (11, N)
    return F.pad(reached, (0, 1)).amax(dim=1).mean()  # the padding is for N = 0


def average_precision_area(recall: Tensor, precision: Tensor) -> Tensor:
    """The area under the curve once precision is made to fall monotonically (from VOC2010 on).

    Args:
        recall: The recall at each box, (N,), which rises.
        precision: The precision at each box, (N,).

    Returns:
        The area, a scalar, which is NaN where the recall is.
    """
    widths = recall.diff(prepend=recall.new_zeros(1))
    envelope = precision.flip(0).cummax(dim=0).values.flip(0)
    return (widths * envelope).sum()


def _cat(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if parts else torch.zeros(0)
