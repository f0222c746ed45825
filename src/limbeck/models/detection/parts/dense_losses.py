"""RetinaNet's losses of the images of a batch, before they are divided by what normalises them."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from limbeck.models.detection.parts.box_coder import BoxCoder
from limbeck.models.detection.parts.matcher import IGNORED
from limbeck.models.detection.parts.selection import indices_of_rows

LOSSES = ("classification", "bbox_regression")


def losses_of_images(
    targets: list[dict[str, Tensor]],
    head_outputs: dict[str, Tensor],
    anchors: list[Tensor],
    matched: list[Tensor],
    coder: BoxCoder,
    first_label: int = 1,
) -> tuple[dict[str, list[Tensor]], list[int]]:
    """The focal loss of the classes, and the L1 loss of the deltas of the positive anchors.

    The focal loss is equation 5 of Lin et al., arXiv 1708.02002. The device is waited for once.

    Args:
        targets: The ``boxes`` (M, 4) and ``labels`` (M,), which count from 1, of each image.
        head_outputs: The ``cls_logits`` (B, N, K) and the ``bbox_regression`` (B, N, 4).
        anchors: The anchors of each image, (N, 4).
        matched: What :func:`limbeck.models.detection.parts.matcher.match_anchors` gives for each
            image, (N,).
        coder: What encodes boxes as deltas.
        first_label: The label that column 0 of the logits stands for.

    Returns:
        The sums ``classification`` and ``bbox_regression`` of each image, and the number of each
        image's positive anchors.
    """
    matches = torch.stack(matched)
    rows = indices_of_rows(torch.cat([matches >= 0, matches != IGNORED]))
    positives, counted = rows[: len(matched)], rows[len(matched) :]
    losses: dict[str, list[Tensor]] = {name: [] for name in LOSSES}
    # Unbound, not indexed one by one: each index would have a gradient of the whole batch's size.
    outputs = (head_outputs["cls_logits"].unbind(), head_outputs["bbox_regression"].unbind())
    for i, (target, positive) in enumerate(zip(targets, positives, strict=True)):
        logits, deltas = outputs[0][i], outputs[1][i]
        truth = matched[i][positive]
        wanted = torch.zeros_like(logits)
        column = target["labels"][truth] - first_label
        # Not wanted[...] = 1.0, which would bring the number to the device.
        wanted.index_put_((positive, column), torch.ones_like(column, dtype=wanted.dtype))
        focal = sigmoid_focal_loss(logits[counted[i]], wanted[counted[i]], reduction="sum")
        encoded = coder.encode_single(target["boxes"][truth], anchors[i][positive])
        losses["classification"].append(focal)
        losses["bbox_regression"].append(F.l1_loss(deltas[positive], encoded, reduction="sum"))
    return losses, [len(positive) for positive in positives]
