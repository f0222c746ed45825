"""RetinaNet's losses, summed over a batch, before they are divided by what normalises them."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import sigmoid_focal_loss

from limbeck.models.detection.parts.matcher import IGNORED


def summed_losses(
    targets: list[dict[str, Tensor]],
    head_outputs: dict[str, Tensor],
    anchors: list[Tensor],
    matched: list[Tensor],
    coder: BoxCoder,
) -> dict[str, Tensor]:
    """The focal loss of the classes, and the L1 loss of the deltas of the positive anchors.

    The focal loss is equation 5 of Lin et al., arXiv 1708.02002.

    Args:
        targets: The ``boxes`` (M, 4) and ``labels`` (M,), which count from 1, of each image.
        head_outputs: The ``cls_logits`` (B, N, K), with label 1 in column 0, and the
            ``bbox_regression`` (B, N, 4).
        anchors: The anchors of each image, (N, 4).
        matched: What :func:`limbeck.models.detection.parts.matcher.match_anchors` gives for each
            image, (N,).
        coder: What encodes boxes as deltas.

    Returns:
        The sums ``classification`` and ``bbox_regression``.
    """
    classification, regression = [], []
    for i, (target, of_image, match) in enumerate(zip(targets, anchors, matched, strict=True)):
        logits, deltas = head_outputs["cls_logits"][i], head_outputs["bbox_regression"][i]
        positive, counted = torch.where(match >= 0)[0], match != IGNORED
        truth = match[positive]
        wanted = torch.zeros_like(logits)
        wanted[positive, target["labels"][truth] - 1] = 1.0
        classification.append(sigmoid_focal_loss(logits[counted], wanted[counted], reduction="sum"))
        encoded = coder.encode_single(target["boxes"][truth], of_image[positive])
        regression.append(F.l1_loss(deltas[positive], encoded, reduction="sum"))
    return {
        "classification": torch.stack(classification).sum(),
        "bbox_regression": torch.stack(regression).sum(),
    }
