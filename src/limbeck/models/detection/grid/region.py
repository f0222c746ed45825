"""Darknet's region layer: the boxes that YOLOv2's anchors predict, and the loss of all predictions.

The boxes are section 2 of Redmon and Farhadi, arXiv 1612.08242. The loss is that of darknet's
program, which the paper does not write down.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from limbeck.frame import Extent
from limbeck.models.detection.grid.detector import Predictions
from limbeck.models.detection.parts.overlaps import iou
from limbeck.models.detection.parts.transform import Targets

LEVEL = 5  # the map's stride is 2**5 pixels
STRIDE = 2**LEVEL
_OBJECT, _NO_OBJECT, _COORDINATES, _PRIOR = 5.0, 1.0, 1.0, 0.01  # weights of the loss
_RIGHT = 0.6  # IoU with an object above which an anchor without one is left alone
_BLOCK = 128  # objects that all anchors are compared with at a time
_LARGEST = math.log(1000 / 16)  # bounds the logarithm of a side over the anchor's, as torchvision


def decoded(deltas: Tensor, anchors: Tensor) -> Tensor:
    """The boxes that are predicted for anchors.

    Args:
        deltas: What is predicted, (..., N, 4): t_x, t_y, t_w and t_h.
        anchors: The anchors (N, 4), xyxy, in pixels.

    Returns:
        The boxes (..., N, 4), xyxy, in pixels.
    """
    middle = (anchors[..., :2] + anchors[..., 2:]) / 2
    centres = middle + (deltas[..., :2].sigmoid() - 0.5) * STRIDE
    sides = anchors[..., 2:] - anchors[..., :2]
    half = sides * deltas[..., 2:].clamp(max=_LARGEST).exp() / 2
    return torch.cat([centres - half, centres + half], dim=-1)


def region_loss(
    predictions: Predictions,
    anchors: Tensor,
    shapes: Tensor,
    targets: Targets,
    extent: Extent,
    warm_up: Tensor,
) -> dict[str, Tensor]:
    """The region loss, whose gradients are darknet's.

    Each object has the anchor whose shape has the greatest IoU with its own, in the cell that holds
    its centre; of several objects with one anchor the last has it. The loss is summed over an
    image, and its mean is taken over the images:

    * ``coordinates``: half the squared errors of sigmoid(t_x), sigmoid(t_y), t_w and t_h of these
      anchors, times 2 less the part of the image that the object takes;
    * ``confidence``: half the squared error of sigmoid(t_o), times 5, where the target is the IoU
      of the decoded box, without its gradient; and for all other anchors, times 1, where the target
      is 0, unless their decoded box has an IoU over 0.6 with any object;
    * ``classification``: the cross-entropy of the classes of these anchors;
    * ``prior``: during the warm-up, for all other anchors, 0.01 times half the squared errors of
      their coordinates from those of the anchor itself.

    Args:
        predictions: What is predicted for the N anchors of each image.
        anchors: The anchors (N, 4), xyxy, by cell, row after row, then by shape.
        shapes: The (width, height) of each anchor of a cell, in pixels, (K, 2).
        targets: The ``boxes`` (M, 4) and ``labels`` (M,), which count from 1, of each image.
        extent: The (height, width) of the network's frame, in pixels.
        warm_up: Whether anchors without an object are pulled to their prior, a boolean ().

    Returns:
        The four losses by their names.
    """
    boxes, labels = _padded(targets)
    owner = objects_of_anchors(boxes, labels, anchors, shapes, extent)
    has_object, own = owner >= 0, owner.clamp(min=0)  # (B, N)
    truth = _truth(boxes, own, has_object, anchors)
    share = (truth[..., 2:] - truth[..., :2]).prod(dim=-1) / (extent[0] * extent[1])

    coordinates = _coordinate_loss(predictions.deltas, truth, anchors)
    parts = {
        "coordinates": torch.where(has_object, _COORDINATES * (2 - share) * coordinates, 0.0),
        "confidence": _confidence_loss(predictions, anchors, boxes, truth, has_object),
        "classification": torch.where(
            has_object, -_log_likelihood(predictions.logits, labels.gather(1, own)), 0.0
        ),
        "prior": torch.where(warm_up & ~has_object, _PRIOR * coordinates, 0.0),
    }
    return {name: of_anchors.sum() / len(targets) for name, of_anchors in parts.items()}


def objects_of_anchors(
    boxes: Tensor,
    labels: Tensor,
    anchors: Tensor,
    shapes: Tensor,
    extent: Extent,
) -> Tensor:
    """Which object of its image each anchor has.

    Args:
        boxes: The boxes of the objects, (B, M, 4), xyxy, in pixels.
        labels: Their labels, (B, M), which are 0 where there is no object.
        anchors: The anchors (N, 4), by cell, row after row, then by shape.
        shapes: The (width, height) of each anchor of a cell, in pixels, (K, 2).
        extent: The (height, width) of the network's frame, in pixels.

    Returns:
        The index of each anchor's object, (B, N), or -1 for none.
    """
    rows, columns = (side // STRIDE for side in extent)
    at_origin = F.pad(shapes.to(boxes), (2, 0))  # (K, 4)
    sides = F.pad(boxes[..., 2:] - boxes[..., :2], (2, 0))
    shape = iou(sides[:, :, None], at_origin).argmax(dim=2)  # (B, M), the first of equal ones
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    column, row = (centres / STRIDE).floor().long().unbind(dim=-1)
    column, row = column.clamp(0, columns - 1), row.clamp(0, rows - 1)  # the border: the last cell
    anchor = (row * columns + column) * len(shapes) + shape
    numbers = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)
    numbers = torch.where(labels > 0, numbers, -1)
    nobody = numbers.new_full((len(labels), len(anchors)), -1)
    return nobody.scatter_reduce(1, anchor, numbers, "amax")


def _padded(targets: Targets) -> tuple[Tensor, Tensor]:
    """Boxes (B, M, 4) and labels (B, M); the last ones of every image are 0, which is no object."""
    boxes = [F.pad(target["boxes"], (0, 0, 0, 1)) for target in targets]
    labels = [F.pad(target["labels"], (0, 1)) for target in targets]
    return pad_sequence(boxes, batch_first=True), pad_sequence(labels, batch_first=True)


def _truth(boxes: Tensor, own: Tensor, has_object: Tensor, anchors: Tensor) -> Tensor:
    """What each anchor has to predict: the box of its object, or its prior, itself: (B, N, 4)."""
    truth = boxes.gather(1, own[..., None].expand(-1, -1, 4))
    return torch.where(has_object[..., None], truth, anchors)


def _confidence_loss(
    predictions: Predictions, anchors: Tensor, boxes: Tensor, truth: Tensor, has_object: Tensor
) -> Tensor:
    """Half the weighted squared errors of each anchor's confidence, (B, N)."""
    with torch.no_grad():
        found = decoded(predictions.deltas, anchors)
        right = _on_objects(found, boxes)
        overlap = iou(found, truth)
    sure = predictions.confidence.sigmoid()
    wrong = torch.where(right, 0.0, _NO_OBJECT * sure.square())
    return torch.where(has_object, _OBJECT * (sure - overlap).square(), wrong) / 2


def _log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """The logarithm of the probability of each anchor's label, which counts from 1: (B, N)."""
    column = (labels - 1).clamp(min=0)
    return logits.log_softmax(-1).gather(-1, column[..., None])[..., 0]


def _on_objects(found: Tensor, boxes: Tensor) -> Tensor:
    """Which of boxes (B, N, 4) have an IoU over 0.6 with any object (B, M, 4) of theirs: (B, N)."""
    right = torch.zeros(found.shape[:2], dtype=torch.bool, device=found.device)
    for block in torch.split(boxes, _BLOCK, dim=1):  # a crowd of 1900 at once is a GB
        right |= (iou(found[:, :, None], block[:, None]) > _RIGHT).any(dim=2)
    return right


def _coordinate_loss(deltas: Tensor, boxes: Tensor, anchors: Tensor) -> Tensor:
    """Half the squared errors of each anchor's four values: (B, N, 4), (B, N, 4) -> (B, N)."""
    centres, middle = (each[..., :2] + each[..., 2:] for each in (boxes, anchors))
    sides, priors = (each[..., 2:] - each[..., :2] for each in (boxes, anchors))
    offsets = (centres - middle) / (2 * STRIDE) + 0.5  # from the cell's corner, in cells
    expected = torch.cat([offsets, (sides / priors).log()], dim=-1)
    found = torch.cat([deltas[..., :2].sigmoid(), deltas[..., 2:]], dim=-1)
    return (found - expected).square().sum(dim=-1) / 2
