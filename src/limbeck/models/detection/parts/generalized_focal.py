"""The losses of Generalized Focal Loss (Li et al., NeurIPS 2020, arXiv:2006.04388)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.models.detection.parts.distributions import DistributionCoder, of_sides
from limbeck.models.detection.parts.matcher import IGNORED
from limbeck.models.detection.parts.overlaps import giou, iou
from limbeck.models.detection.parts.selection import indices_of_rows

_GIOU, _DISTRIBUTION = 2.0, 0.25  # published weights
_SHORT = 0.1  # strides by which a distance that is learnt stays below the last bin


def losses_of_batch(
    targets: Sequence[dict[str, Tensor]],
    head_outputs: dict[str, Tensor],
    anchors: Tensor,
    matched: Tensor,
    coder: DistributionCoder,
) -> dict[str, Tensor]:
    """The three losses of a batch, weighted as published; the device is waited for once.

    The score of a class has to be the IoU of the box that is predicted beside it. The losses of
    boxes count by the best score of their anchor. As in mmdetection they are divided by the sum of
    these, 1 at least, and the loss of the classes by the positives, one at least an image.

    Args:
        targets: The ``boxes`` (M, 4) and ``labels`` (M,), which count from 1, of each image.
        head_outputs: The ``cls_logits`` (B, N, K) and the ``bbox_regression`` (B, N, 4 * bins).
        anchors: The anchors that every image has, (N, 4).
        matched: The object of each anchor among those of the whole batch, (B, N), see
            :class:`limbeck.models.detection.parts.atss.ATSSMatcher`.
        coder: What makes boxes of distributions.

    Returns:
        ``classification`` (quality focal loss), ``bbox_regression`` (GIoU) and ``distribution``
        (distribution focal loss).
    """
    logits, distributions = (head_outputs[n] for n in ("cls_logits", "bbox_regression"))
    rows = indices_of_rows(matched >= 0)
    anchor = torch.cat(rows)
    place = torch.cat([row + i * len(anchors) for i, row in enumerate(rows)])
    item = matched.flatten()[place]
    truth = torch.cat([target["boxes"] for target in targets])[item]
    label = torch.cat([target["labels"] for target in targets])[item] - 1
    chosen, cells = distributions.flatten(0, 1)[place], anchors[anchor]
    boxes = coder.decode_single(chosen, cells)
    score = logits.detach().flatten(0, 1)[place].sigmoid().amax(dim=1)
    wanted = torch.zeros_like(logits).flatten(0, 1)
    wanted.index_put_((place, label), iou(boxes.detach(), truth))
    quality = quality_focal_loss(logits, wanted.view_as(logits)).sum(dim=2)
    distances = coder.distances(truth, cells)
    sides = distribution_focal_loss(of_sides(chosen), distances).mean(dim=1)
    total = score.sum().clamp(min=1)
    return {
        "classification": quality.masked_fill(matched == IGNORED, 0.0).sum()
        / sum(max(1, len(row)) for row in rows),
        "bbox_regression": _GIOU * ((1 - giou(boxes, truth)) * score).sum() / total,
        "distribution": _DISTRIBUTION * (sides * score).sum() / total,
    }


def quality_focal_loss(logits: Tensor, quality: Tensor) -> Tensor:
    """The quality focal loss with beta = 2: |y - sigma|^2 times the cross-entropy.

    Args:
        logits: The logits of the classes, of any shape.
        quality: The target y of each: the IoU of the predicted box for the class of the object, and
            0 otherwise.

    Returns:
        The loss of each.
    """
    difference = (quality - logits.sigmoid()).square()
    entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return difference * entropy


def distribution_focal_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """The distribution focal loss: cross-entropy with the two nearest bins.

    Args:
        logits: The logits of the bins, (..., bins).
        distances: The distances y, (...), in strides, which are clipped to what bins can mean.

    Returns:
        -((y_r - y) log S_l + (y - y_l) log S_r) of each, with y_l and y_r = y_l + 1 the bins on
        both sides of y, (...).
    """
    clipped = distances.clamp(min=0, max=logits.shape[-1] - 1 - _SHORT)
    left = clipped.floor()
    log_shares = logits.log_softmax(dim=-1)
    at_left, at_right = (
        log_shares.gather(-1, bins.long()[..., None])[..., 0] for bins in (left, left + 1)
    )
    return (clipped - left - 1) * at_left + (left - clipped) * at_right
