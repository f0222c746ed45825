"""Boxes whose last pixel counts: the arithmetic of the first Faster R-CNN, on exclusive boxes.

There a box (x1, y1, x2, y2) contains the pixels x2 and y2, and is x2 - x1 + 1 wide. Here boxes are
limbeck's, exclusive: **an exclusive box is the inclusive one with 1 added to x2 and y2**. Widths,
centres, areas, IoU, NMS and encoding are then torchvision's own. Three things differ:

* a decoded box is one pixel larger than its deltas say: the original forgets the -1 in x2 and y2;
* a clipped box keeps at least the pixels at the image's border;
* what is read from a map for a box, or scaled, begins and ends at the inclusive coordinates.
"""

import math

import torch
from torch import Tensor
from torchvision.ops import box_iou

from limbeck.models.detection.parts.box_coder import BoxCoder, Weights
from limbeck.models.detection.parts.matcher import Matcher


def inclusive(boxes: Tensor) -> Tensor:
    """The inclusive boxes (..., 4) for exclusive ones (..., 4)."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] - 1], dim=-1)


def exclusive(boxes: Tensor) -> Tensor:
    """The exclusive boxes (..., 4) for inclusive ones (..., 4)."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] + 1], dim=-1)


class InclusiveBoxCoder(BoxCoder):
    """torchvision's ``BoxCoder`` without a bound of growth; decoded boxes are a pixel larger.

    Args:
        weights: The factors of dx, dy, dw and dh in what a head has to predict.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights, bbox_xform_clip=math.inf)

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Decode (N, 4 * K) deltas from (N, 4) boxes, xyxy -> (N, 4 * K) boxes."""
        decoded: Tensor = super().decode_single(rel_codes, boxes)
        return exclusive(decoded.reshape(-1, 4)).reshape(decoded.shape)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Clip boxes to the pixels of an image, so that none becomes empty.

    Args:
        boxes: The boxes (..., 4), xyxy, exclusive.
        size: The (height, width) of the image, in pixels.

    Returns:
        The clipped boxes (..., 4).
    """
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(-1)
    first = x1.clamp(0, width - 1), y1.clamp(0, height - 1)
    return torch.stack([*first, x2.clamp(1, width), y2.clamp(1, height)], dim=-1)


def is_pixel(boxes: Tensor) -> Tensor:
    """Whether each of (N, 4) boxes is one pixel, (N,), which the original takes for padding."""
    return (boxes[:, 2:] - boxes[:, :2] == 1).all(dim=1)


def iou(truth: Tensor, boxes: Tensor) -> Tensor:
    """The IoU of objects and boxes, with what the original makes of single pixels.

    Args:
        truth: The boxes of the objects, (M, 4).
        boxes: The boxes that are compared with them, (N, 4).

    Returns:
        The IoU (M, N): 0 for an object of one pixel, and -1 for a box of one pixel.
    """
    overlaps: Tensor = box_iou(truth, boxes)
    overlaps = overlaps.masked_fill(is_pixel(truth)[:, None], 0.0)
    return overlaps.masked_fill(is_pixel(boxes), -1.0)


class OverlappingMatcher(Matcher):
    """torchvision's ``Matcher``, whose best anchors of a box have to overlap it.

    Args:
        high: The IoU from which an anchor is positive.
        low: The IoU below which it is negative. Between the two it is ignored.
    """

    def __init__(self, high: float, low: float) -> None:
        super().__init__(high, low, allow_low_quality_matches=True)

    def set_low_quality_matches_(self, matches: Tensor, all_matches: Tensor, iou: Tensor) -> None:
        """Overwrite ``matches`` (N,) where ``iou`` (M, N) is the best of its row."""
        best = iou.amax(dim=1, keepdim=True)
        tied = torch.any((iou == best) & (best > 0), dim=0)
        matches.copy_(torch.where(tied, all_matches, matches))
