"""FCOS's matching: which object every location has to predict, and how central it is in it."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from limbeck.models.detection.parts.matcher import NEGATIVE

NEAR, FAR = 4, 8  # strides, between which the longest of the four distances lies at a level
_BLOCK = 2**24  # locations times boxes at a time: 64 MB for each temporary
_AREA = 1e8  # above that of any box, in square pixels; float32 tells areas apart by 8 from here


def match_locations(anchors: Sequence[Tensor], boxes: Sequence[Tensor], radius: float) -> Tensor:
    """Match every location of each image of a batch to an object, or to the background.

    The rules of Tian et al., arXiv 1904.01355 and 2006.09214, as torchvision computes them: a
    location is an object's if it lies inside of its box and near its centre, and if the longest of
    the four distances to the sides suits the level. Of several boxes the smallest one counts.

    Args:
        anchors: The anchors of each level, (H * W, 4), xyxy, pixels: squares about the locations,
            whose sides are the level's stride; the same for all images.
        boxes: The boxes of each image, (M, 4), xyxy, pixels.
        radius: How near a location has to be to a box's centre, in strides, horizontally and
            vertically.

    Returns:
        For every location of all N, in each image (B, N), the index of its box, or NEGATIVE.
    """
    every = torch.cat(list(anchors)).float()  # (N, 4)
    # A box of NaN, which fills an image's boxes up, is nobody's.
    padded = pad_sequence([b.float() for b in boxes], batch_first=True, padding_value=torch.nan)
    if not padded.shape[1]:
        return torch.full((len(boxes), len(every)), NEGATIVE, device=every.device)
    stride = every[:, 2] - every[:, 0]
    nearest, farthest = stride * NEAR, stride * FAR
    nearest[: len(anchors[0])] = 0
    farthest[len(every) - len(anchors[-1]) :] = torch.inf
    bounds = torch.stack([nearest, farthest, radius * stride])
    centres = (every[:, :2] + every[:, 2:]) / 2
    at_a_time = max(1, _BLOCK // max(1, len(every) * padded.shape[1]))
    return torch.cat([_matched(centres, bounds, b) for b in torch.split(padded, at_a_time)])


def _matched(centres: Tensor, bounds: Tensor, boxes: Tensor) -> Tensor:
    """The index (B, N) of the box of each location, of boxes (B, M, 4)."""
    x, y = centres[:, :1], centres[:, 1:]  # (N, 1)
    x1, y1, x2, y2 = boxes[:, None].unbind(dim=-1)  # (B, 1, M) each
    nearest, farthest, reach = bounds[..., None]  # (N, 1) each
    sides = (x - x1, y - y1, x2 - x, y2 - y)  # (B, N, M) each
    closest = torch.minimum(sides[0], sides[1]).minimum(sides[2]).minimum(sides[3])
    longest = torch.maximum(sides[0], sides[1]).maximum(sides[2]).maximum(sides[3])
    aside = torch.maximum((x - (x1 + x2) / 2).abs(), (y - (y1 + y2) / 2).abs())
    fits = (closest > 0) & (aside < reach) & (longest > nearest) & (longest < farthest)
    smallness = _AREA - (x2 - x1) * (y2 - y1)
    best, index = torch.where(fits, smallness, 0.0).max(dim=2)
    return torch.where(best > 0, index, NEGATIVE)


def centreness(distances: Tensor) -> Tensor:
    """How central a location is in its box, from 0 at its border to 1 in the middle.

    Equation 3 of Tian et al., arXiv 1904.01355.

    Args:
        distances: The distances to the left, upper, right and lower side, (..., 4), above 0.

    Returns:
        The centre-ness of each, (...).
    """
    left, top, right, bottom = distances.unbind(dim=-1)
    across = torch.minimum(left, right) / torch.maximum(left, right)
    down = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (across * down).sqrt()
