"""How far boxes cover each other."""

import torch
from torch import Tensor


def iou(first: Tensor, second: Tensor) -> Tensor:
    """The IoU of boxes, pair by pair.

    Args:
        first: Boxes (..., 4), xyxy.
        second: Boxes (..., 4), xyxy, of a shape that is broadcast with the first ones'.

    Returns:
        The IoU (...).
    """
    common, union = _common_and_union(first, second)
    return common / union


def giou(first: Tensor, second: Tensor) -> Tensor:
    """The generalised IoU of boxes, pair by pair (Rezatofighi et al., CVPR 2019, arXiv:1902.09630).

    torchvision's loss of it takes what a mask chooses, for which a GPU is waited for.

    Args:
        first: Boxes (..., 4), xyxy.
        second: Boxes (..., 4), xyxy, of a shape that is broadcast with the first ones'. One box of
            a pair has an area.

    Returns:
        IoU - (H - U) / H of each, with U the area of the union and H that of the smallest box
        around both, (...).
    """
    common, union = _common_and_union(first, second)
    (x1, y1, x2, y2), (left, top, right, bottom) = first.unbind(-1), second.unbind(-1)
    width = torch.maximum(x2, right) - torch.minimum(x1, left)
    around = width * (torch.maximum(y2, bottom) - torch.minimum(y1, top))
    return common / union - (around - union) / around


def _common_and_union(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    (x1, y1, x2, y2), (left, top, right, bottom) = first.unbind(-1), second.unbind(-1)
    width = (torch.minimum(x2, right) - torch.maximum(x1, left)).clamp(min=0)
    common = width * (torch.minimum(y2, bottom) - torch.maximum(y1, top)).clamp(min=0)
    areas = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top)
    return common, areas - common
