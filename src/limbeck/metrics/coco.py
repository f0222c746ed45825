"""COCO's average precision, as its evaluation server computes it."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from limbeck.metrics.detections import DetectionMetric, Fields

NAMES = {
    "AP": "map",
    "AP50": "map_50",
    "AP75": "map_75",
    "AP_small": "map_small",
    "AP_medium": "map_medium",
    "AP_large": "map_large",
}


class COCOAveragePrecision(DetectionMetric):
    """The average precision over IoU .50:.05:.95, 101 recalls and at most 100 boxes an image.

    A box that matches a target with ``iscrowd`` is neither right nor wrong. ``area`` decides
    between small (below 32² pixels), medium and large (above 96²); where it is missing or 0, the
    area of the box is taken.

    Source: https://cocodataset.org/#detection-eval, computed by faster-coco-eval.

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
        found = self._evaluate()
        scores = {name: found[key] for name, key in NAMES.items()}
        if self.classes is not None:
            labels = found["classes"].reshape(-1)  # torchmetrics squeezes one class to a scalar,
            values = found.get("map_per_class", labels).reshape(-1)  # and gives none for no image
            seen = dict(zip(labels.tolist(), values, strict=True))
            undefined = torch.tensor(-1.0)
            scores |= {f"AP/{n}": seen.get(i, undefined) for i, n in enumerate(self.classes, 1)}
        return {name: score.to(self.device) for name, score in scores.items()}

    def _evaluate(self) -> dict[str, Any]:
        evaluator = MeanAveragePrecision(
            # torchmetrics' own thresholds are float32, and miss an IoU or recall of exactly 0.6.
            iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
            rec_thresholds=np.linspace(0.0, 1.0, 101).tolist(),
            class_metrics=self.classes is not None,
            backend="faster_coco_eval",
            sync_on_compute=False,
        )
        evaluator.warn_on_many_detections = False
        for prediction, target in self.images():
            evaluator.update([prediction], [target])
        return evaluator.compute()
