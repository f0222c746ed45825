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
    (x1, y1, x2, y2), (left, top, right, bottom) = first.unbind(-1), second.unbind(-1)
    width = (torch.minimum(x2, right) - torch.maximum(x1, left)).clamp(min=0)
    common = width * (torch.minimum(y2, bottom) - torch.maximum(y1, top)).clamp(min=0)
    areas = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top)
    return common / (areas - common)
