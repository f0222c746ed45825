"""COCO's average precision, as its evaluation server computes it."""

from collections.abc import Sequence
from typing import ClassVar

import hotcoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_convert

from limbeck.metrics.detections import Boxes, DetectionMetric, Fields

Floats = NDArray[np.float64]
MOST_BOXES = 100  # of a class in an image
ANY, SMALL, MEDIUM, LARGE = range(4)  # the sizes, in the order of the evaluator


class COCOAveragePrecision(DetectionMetric):
    """The average precision over IoU .50:.05:.95, 101 recalls and at most 100 boxes an image.

    A box that matches a target with ``iscrowd`` is neither right nor wrong. ``area`` decides
    between small (below 32² pixels), medium and large (above 96²); where it is missing or 0, the
    area of the box is taken.

    Source: https://cocodataset.org/#detection-eval, computed by hotcoco.

    Args:
        classes: The names of the classes, of which each gets an ``AP/<name>``; label ``i + 1`` is
            ``classes[i]``. None: any label from 1 on is taken, and no class has a score of its own.

    Attributes:
        headline: The name of the score that judges a run, which is ``AP``.
        optional_fields: The fields ``iscrowd`` and ``area``.

    Example:
        >>> import torch
        >>> from limbeck.metrics import COCOAveragePrecision
        >>> metric = COCOAveragePrecision(["cat"])
        >>> box = {"boxes": torch.tensor([[0.0, 0, 10, 10]]), "labels": torch.tensor([1])}
        >>> metric.update([box | {"scores": torch.tensor([0.9])}], [box])
        >>> round(metric.compute()["AP"].item(), 3)
        1.0
    """

    headline = "AP"
    optional_fields: ClassVar[Fields] = {"iscrowd": torch.long, "area": torch.float}

    def __init__(self, classes: Sequence[str] | None = None) -> None:
        super().__init__(classes)

    def compute(self) -> dict[str, Tensor]:
        """Compute the scores of all images so far.

        Returns:
            ``AP``, ``AP50``, ``AP75``, ``AP_small``, ``AP_medium``, ``AP_large`` and, if there are
            class names, ``AP/<name>``: scalars from 0 to 1, or -1 where no target is counted (a
            class or a size that the targets lack), as COCO has it. Classes at -1 are left out of
            the means.
        """
        labels, precision = self._precision()
        scores = {
            "AP": _mean(precision[..., ANY]),
            "AP50": _mean(precision[0, ..., ANY]),
            "AP75": _mean(precision[5, ..., ANY]),
            "AP_small": _mean(precision[..., SMALL]),
            "AP_medium": _mean(precision[..., MEDIUM]),
            "AP_large": _mean(precision[..., LARGE]),
        }
        if self.classes is not None:
            seen = {label: _mean(precision[:, :, k, ANY]) for k, label in enumerate(labels)}
            scores |= {f"AP/{name}": seen.get(i, -1.0) for i, name in enumerate(self.classes, 1)}
        return {
            name: torch.tensor(score, dtype=torch.float32, device=self.device)
            for name, score in scores.items()
        }

    def _precision(self) -> tuple[list[int], Floats]:
        """Evaluate all images, classes and sizes at once.

        Returns:
            The K labels that occur, and the precision (10, 101, K, 4) by IoU threshold, recall,
            label and size. It is -1 where nothing is to be found.
        """
        found, wanted = self.rows()
        labels = np.unique(torch.cat([found["labels"], wanted["labels"]]).numpy()).tolist()
        truth = hotcoco.COCO.from_arrays(
            [{"id": number} for number in range(len(self._counts()))],
            [{"id": label, "name": str(label)} for label in labels],
            image_ids=wanted["image"].numpy(),
            category_ids=wanted["labels"].numpy(),
            boxes=as_xywh(wanted),
            area=stated_areas(wanted),
            iscrowd=wanted["iscrowd"].numpy(),
        )
        image, score, label = (
            found[name].double().numpy() for name in ("image", "scores", "labels")
        )
        rows = np.column_stack([image, as_xywh(found), score, label])
        evaluator = hotcoco.COCOeval(truth, truth.load_res(rows), "bbox")
        evaluator.params.max_dets = [MOST_BOXES]
        evaluator.evaluate()
        evaluator.accumulate()
        assert evaluator.eval is not None
        precision: Floats = evaluator.eval["precision"][..., 0]
        return labels, precision


def as_xywh(rows: Boxes) -> Floats:
    """The corner, width and height of each box, (N, 4), where widths are those of float32."""
    boxes: Floats = box_convert(rows["boxes"], "xyxy", "xywh").double().numpy()
    return boxes


def stated_areas(target: Boxes) -> Floats:
    """The area of each object, (M,): that of its box where the target states none."""
    stated: Floats = target["area"].double().numpy()
    return np.where(stated > 0, stated, as_xywh(target)[:, 2:].prod(axis=1))


def _mean(precision: Floats) -> float:
    """The mean where something is to be found, or -1 where nothing is."""
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else -1.0
