"""Boxes as distributions of their sides' distances from a cell (Generalized Focal Loss).

Li, Wang, Wu, Chen, Hu, Li, Tang, Yang: Generalized Focal Loss. NeurIPS 2020, arXiv:2006.04388. Each
of the four sides of a box, left, top, right and bottom, has logits of ``BINS`` distances 0, 1, ...
strides from the centre of the anchor. The distance is the expectation of their softmax.
"""

import torch
from torch import Tensor

BINS = 17
ANCHOR = 8  # strides, the side of the square anchor of a cell


class DistributionCoder:
    """Boxes of distributions and anchors, and the distances that these have to learn."""

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """The boxes (n, 4), xyxy, of the logits (n, 4 * BINS) of n anchors (n, 4)."""
        strides, centres = _stride(boxes), _centres(boxes)
        distances = strides * expectation(of_sides(rel_codes))
        return torch.cat([centres - distances[:, :2], centres + distances[:, 2:]], dim=1)

    def distances(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """The distances of the sides of boxes (n, 4) from the centres of anchors, in strides."""
        centres = _centres(anchors)
        pixels = torch.cat([centres - boxes[:, :2], boxes[:, 2:] - centres], dim=1)
        return pixels / _stride(anchors)


def of_sides(logits: Tensor) -> Tensor:
    """The logits of a box (n, 4 * BINS), side by side: (n, 4, BINS)."""
    return logits.view(logits.shape[0], 4, logits.shape[1] // 4)


def expectation(logits: Tensor) -> Tensor:
    """The expectation of each distribution: logits (..., BINS) to numbers (...)."""
    numbers = torch.arange(logits.shape[-1], device=logits.device, dtype=logits.dtype)
    return (logits.softmax(dim=-1) * numbers).sum(dim=-1)


def _stride(anchors: Tensor) -> Tensor:
    return (anchors[:, 2:3] - anchors[:, :1]) / ANCHOR


def _centres(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2
