"""SqueezeDet's boxes and losses (Wu et al., arXiv 1612.01051), which ShuffleDet is trained with."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_iou

from limbeck.frame import Extent
from limbeck.models.detection.grid.detector import Predictions
from limbeck.models.detection.parts.overlaps import iou
from limbeck.models.detection.parts.transform import Targets

_CONFIDENCE, _NO_OBJECT, _BOX = 75.0, 100.0, 5.0  # weights of the loss
_BLOCK = 64  # objects of an image that are compared with all anchors at a time
_NEVER = -1e30  # a logit that takes no part


class MatchedObjects(NamedTuple):
    """The M objects of a batch, each with an anchor of its own.

    Attributes:
        image: The index of each object's image in the batch, (M,).
        anchor: The index of each object's anchor in that image, (M,).
        boxes: The box of each object, xyxy in the network's frame, (M, 4).
        labels: The label of each object, counting from 0, (M,).
    """

    image: Tensor
    anchor: Tensor
    boxes: Tensor
    labels: Tensor

    @classmethod
    def of(cls, targets: Targets, anchors: Tensor) -> "MatchedObjects":
        """Match the objects of all images, one image after the other.

        Args:
            targets: The ``boxes`` (M, 4) and ``labels`` (M,), which count from 1, of each image.
            anchors: The anchors (N, 4), the same for all images.

        Returns:
            The objects and their anchors.
        """
        chosen = anchors_of_objects([target["boxes"] for target in targets], anchors)
        return cls(
            torch.cat([torch.full_like(each, number) for number, each in enumerate(chosen)]),
            torch.cat(chosen),
            torch.cat([target["boxes"] for target in targets]),
            torch.cat([target["labels"] for target in targets]) - 1,
        )


def squeezedet_loss(
    matched: MatchedObjects, predictions: Predictions, anchors: Tensor, extent: Extent
) -> dict[str, Tensor]:
    """SqueezeDet's three losses (section 3.3 of its paper), with the published weights.

    There are B images of N anchors, and n anchors in all that have an object. The losses are

    * ``classification``: the binary cross-entropy of each class's probability, summed over the
      n anchors and divided by n;
    * ``confidence``: the squared error of the confidence, whose target is the IoU of the
      decoded box, or 0 without an object; it is weighted by 75 / n with an object and by 100 /
      (N - n) without, summed and divided by B;
    * ``bbox_regression``: 5 / n times the squared error of the deltas of the n anchors.

    In a batch without objects the second one alone is not 0.

    Args:
        matched: The objects of the batch and their anchors.
        predictions: What is predicted for the N anchors of each image.
        anchors: The anchors (N, 4), xyxy.
        extent: The (height, width) of the network's frame, in pixels.

    Returns:
        The three losses by their names.
    """
    images, (image, anchor, boxes, labels) = len(predictions.logits), matched
    count, others = max(1, len(anchor)), max(1, len(anchors) - len(anchor))
    chosen = Predictions(*(each[image, anchor] for each in predictions))
    errors = chosen.deltas - encoded(boxes, anchors[anchor])
    found = boxes_in_frame(chosen.deltas, anchors[anchor], extent)
    # The original's decoded boxes have a pixel more on the right and below.
    found = found.detach()
    found = torch.cat([found[:, :2], found[:, 2:] + 1], dim=1)

    sure = predictions.confidence.sigmoid()  # (B, N)
    sure_of_objects = sure[image, anchor]
    right = (iou(found, boxes) - sure_of_objects).square().sum()
    wrong = sure.square().sum() - sure_of_objects.square().sum()
    return {
        "classification": _class_loss(chosen.logits, labels).sum() / count,
        "confidence": (_CONFIDENCE / count * right + _NO_OBJECT / others * wrong) / images,
        "bbox_regression": _BOX / count * errors.square().sum(),
    }


def safe_exp(x: Tensor) -> Tensor:
    """``exp(x)`` for x up to 1, and its tangent at 1 beyond, elementwise."""
    return torch.where(x > 1, torch.e * x, x.clamp(max=1).exp())


def encoded(boxes: Tensor, anchors: Tensor) -> Tensor:
    """The deltas (M, 4) from anchors (M, 4) to boxes (M, 4), both xyxy."""
    centres, sides = _centre_form(boxes)
    anchor_centres, anchor_sides = _centre_form(anchors)
    shifts = (centres - anchor_centres) / anchor_sides
    return torch.cat([shifts, (sides / anchor_sides).log()], dim=-1)


def decoded(deltas: Tensor, anchors: Tensor) -> Tensor:
    """The boxes (..., N, 4), xyxy, from deltas (..., N, 4) and anchors (N, 4)."""
    anchor_centres, anchor_sides = _centre_form(anchors)
    centres = anchor_centres + deltas[..., :2] * anchor_sides
    half = safe_exp(deltas[..., 2:]) * anchor_sides / 2
    return torch.cat([centres - half, centres + half], dim=-1)


def boxes_in_frame(deltas: Tensor, anchors: Tensor, extent: Extent) -> Tensor:
    """Decode boxes, and clip them to the network's frame.

    Args:
        deltas: The deltas (..., N, 4).
        anchors: The anchors (N, 4), xyxy.
        extent: The (height, width) of the network's frame, in pixels.

    Returns:
        The boxes (..., N, 4), xyxy.
    """
    height, width = extent
    x1, y1, x2, y2 = decoded(deltas, anchors).unbind(-1)
    x = (x1.clamp(0, width - 1), x2.clamp(0, width - 1))
    y = (y1.clamp(0, height - 1), y2.clamp(0, height - 1))
    return torch.stack([x[0], y[0], x[1], y[1]], dim=-1)


def anchors_of_objects(boxes: Sequence[Tensor], anchors: Tensor) -> list[Tensor]:
    """Find an anchor of its own for each object, in the order of the objects.

    It is the one of the greatest IoU of those that are left; where none of them overlaps the
    object, it is the nearest one by the distance of centres and sides.

    Args:
        boxes: The boxes of the objects of each image, (M, 4), xyxy.
        anchors: The anchors (N, 4), the same for all images.

    Returns:
        For each image the indices of the objects' anchors, (M,).
    """
    padded = pad_sequence(list(boxes), batch_first=True)  # (B, G, 4), 0 at the end
    chosen = torch.zeros_like(padded[..., 0], dtype=torch.long)
    taken = anchors.new_zeros(len(padded), len(anchors), dtype=torch.bool)
    for start in range(0, padded.shape[1], _BLOCK):
        overlaps, distances = _compared(padded[:, start : start + _BLOCK], anchors)
        for turn in range(overlaps.shape[1]):
            overlap = overlaps[:, turn].masked_fill(taken, 0)
            nearness = -distances[:, turn].masked_fill(taken, torch.inf)
            rank = torch.where((overlap > 0).any(dim=1, keepdim=True), overlap, nearness)
            best = rank.argmax(dim=1, keepdim=True)
            taken.scatter_(1, best, True)
            chosen[:, start + turn] = best[:, 0]
    return [of_image[: len(own)] for of_image, own in zip(chosen, boxes, strict=True)]


def _compared(boxes: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and distance of centre and sides, (B, G, N) each: boxes (B, G, 4), anchors (N, 4)."""
    flat = boxes.flatten(0, 1)
    overlaps = box_iou(flat, anchors).view(*boxes.shape[:2], len(anchors))
    distances = torch.cdist(
        torch.cat(_centre_form(flat), dim=1),
        torch.cat(_centre_form(anchors), dim=1),
        compute_mode="donot_use_mm_for_euclid_dist",
    )
    return overlaps, distances.view_as(overlaps)


def _centre_form(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The centres and the sides of boxes, each (..., 2)."""
    first, last = boxes[..., :2], boxes[..., 2:]
    return (first + last) / 2, last - first


def _class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of each of the softmax's probabilities: (n, C), (n,) -> (n, C)."""
    total = logits.logsumexp(dim=1, keepdim=True)
    alone = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    rest = logits[:, None].masked_fill(alone, _NEVER).logsumexp(dim=2)  # all classes but one
    return -torch.where(alone[labels], logits - total, rest - total)
