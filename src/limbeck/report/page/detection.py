"""COCO's matching of a detector's boxes with the truth, as hotcoco computes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hotcoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_area

from limbeck.metrics.predictions import Predictions

Floats = NDArray[np.float64]
IOU = 0.5  # from which on a box is right, in all that is not averaged over thresholds
SIZES = ("small", "medium", "large")
_NEITHER = ("iscrowd", "difficult")  # fields of objects that no detector has to find


@dataclass(frozen=True)
class Judged:
    """The detections of a model that are right or wrong at an IoU of 0.5.

    Attributes:
        scores: The scores of the detections, (D,).
        right: Whether each is right, bool (D,).
        objects: The number of objects that were to be found.
        by_image: The average precision at an IoU of 0.5 of each image by itself, (N,).
    """

    scores: Floats
    right: NDArray[np.bool_]
    objects: int
    by_image: Floats


def evaluate(predictions: Predictions) -> hotcoco.COCOeval:
    """Match the boxes of a detector with the truth by COCO's rules.

    Args:
        predictions: What the detector predicts. Objects that are a crowd or difficult count as
            neither right nor wrong.

    Returns:
        The evaluator, which has accumulated precision and recall.
    """
    truth = hotcoco.COCO.from_arrays(
        [
            {"id": index, "height": height, "width": width}
            for index, (height, width) in enumerate(predictions.sizes.tolist())
        ],
        [{"id": k, "name": str(k)} for k in range(1, len(predictions.classes) + 1)],
        **_truth_columns(predictions.truth),
    )
    found = truth.load_res(_found_columns(predictions.found))
    evaluator = hotcoco.COCOeval(truth, found, "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator


def judge(evaluator: hotcoco.COCOeval, predictions: Predictions) -> Judged:
    """Say which detections are right at an IoU of 0.5.

    Args:
        evaluator: What :func:`evaluate` gave.
        predictions: The predictions that it was given.

    Returns:
        The scores, what is right, and the score of each image.
    """
    diagnosis = evaluator.image_diagnostics(IOU, 0.0)
    scores = _found_columns(predictions.found)[:, 5]
    status = sorted(diagnosis["dt_status"].items())  # identities count from 1
    summary = diagnosis["img_summary"]  # lacks images without boxes on either side
    by_image = [summary.get(i, {"ap": 1.0})["ap"] for i in range(len(predictions))]
    return Judged(
        scores[[identity - 1 for identity, _ in status]],
        np.array([outcome == "tp" for _, outcome in status], dtype=bool),
        int(sum((_neither(target) == 0).sum() for target in predictions.truth)),
        np.array(by_image),
    )


def areas(target: Any) -> Tensor:
    """The areas of the objects of an image, (M,): of their boxes where the dataset states none."""
    of_boxes = box_area(target["boxes"])
    stated = target.get("area", of_boxes)
    return torch.where(stated > 0, stated, of_boxes)


def _truth_columns(targets: Sequence[Any]) -> dict[str, Any]:
    boxes = np.concatenate([_corners_to_sides(target["boxes"]) for target in targets])
    area = np.concatenate([areas(target).numpy() for target in targets])
    return {
        "image_ids": _image_of_each(targets),
        "category_ids": np.concatenate([target["labels"].numpy() for target in targets]),
        "boxes": boxes,
        "ids": np.arange(1, len(boxes) + 1),
        "area": area.astype(np.float64),
        "iscrowd": np.concatenate([_neither(target) for target in targets]),
    }


def _found_columns(found: Sequence[Any]) -> Floats:
    """A row for each detection: image, x, y, width, height, score, class."""
    columns = [
        _image_of_each(found)[:, None],
        np.concatenate([_corners_to_sides(item["boxes"]) for item in found]),
        np.concatenate([item["scores"].numpy() for item in found])[:, None],
        np.concatenate([item["labels"].numpy() for item in found])[:, None],
    ]
    return np.concatenate([column.astype(np.float64) for column in columns], axis=1)


def _neither(target: Any) -> NDArray[np.int64]:
    flags = [target[field].numpy() != 0 for field in _NEITHER if field in target]
    none = np.zeros(len(target["labels"]), dtype=bool)
    neither: NDArray[np.int64] = np.logical_or.reduce([none, *flags]).astype(np.int64)
    return neither


def _image_of_each(items: Sequence[Any]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(items)), [len(item["labels"]) for item in items])


def _corners_to_sides(boxes: Tensor) -> Floats:
    corners = boxes.numpy().astype(np.float64).reshape(-1, 4)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
