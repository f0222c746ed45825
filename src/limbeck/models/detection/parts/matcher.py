"""Matching: which object every anchor has to predict."""

import torch
from torch import Tensor
from torchvision.models.detection import _utils
from torchvision.ops import box_iou

from limbeck.presets import Preset

NEGATIVE = _utils.Matcher.BELOW_LOW_THRESHOLD
IGNORED = _utils.Matcher.BETWEEN_THRESHOLDS
PADDED_SIZE = "padded_size"  # key of a target: (height, width) of the image's own padded area


class Matcher(_utils.Matcher):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ``Matcher``, which does not wait for the device to list the best anchors.

    Args:
        high_threshold: The IoU from which an anchor is positive.
        low_threshold: The IoU below which it is negative. Between the two it is ignored.
        allow_low_quality_matches: Match the best anchors of a box whatever their IoU.
    """

    def set_low_quality_matches_(self, matches: Tensor, all_matches: Tensor, iou: Tensor) -> None:
        """Overwrite ``matches`` (N,) where ``iou`` (M, N) is the best of its row."""
        best = (iou == iou.amax(dim=1, keepdim=True)).any(dim=0)
        matches.copy_(torch.where(best, all_matches, matches))


class OwnBoxMatcher(Matcher):
    """A ``Matcher`` that matches the best anchors of a box to that very box.

    This is mmdetection's ``MaxIoUAssigner``: for one box after the other, every anchor that ties
    for its best IoU is matched to it, whatever the anchor had before. torchvision matches such an
    anchor to the box that fits the anchor best.

    Args:
        high: The IoU from which an anchor is positive.
        low: The IoU below which it is negative. Between the two it is ignored.
        least: The least IoU that a box's best anchors need to be matched to it, mmdetection's
            ``min_pos_iou``.
    """

    def __init__(self, high: float, low: float, least: float) -> None:
        super().__init__(high, low, allow_low_quality_matches=True)
        self.least = least

    def set_low_quality_matches_(self, matches: Tensor, all_matches: Tensor, iou: Tensor) -> None:
        """Overwrite ``matches`` (N,) where ``iou`` (M, N) is the best of its row."""
        best = iou.amax(dim=1, keepdim=True)
        number = torch.arange(len(iou), device=iou.device)[:, None]
        winner = torch.where((iou == best) & (best >= self.least), number, -1).amax(dim=0)
        matches.copy_(torch.where(winner >= 0, winner, matches))


def matcher(preset: Preset, high: float, low: float, least: float) -> Matcher:
    """The matcher of a preset.

    Args:
        preset: The numerics of the detector.
        high: The IoU from which an anchor is positive.
        low: The IoU below which it is negative. Between the two it is ignored.
        least: The least IoU that a box's best anchors need to be matched to it. torchvision and
            detectron2 have no such bound.

    Returns:
        The matcher, which takes IoUs (M, N) of boxes and anchors.
    """
    if preset.own_box_first:
        return OwnBoxMatcher(high, low, least)
    return Matcher(high, low, allow_low_quality_matches=True)


def match_anchors(matcher: _utils.Matcher, target: dict[str, Tensor], anchors: Tensor) -> Tensor:
    """Match every anchor of one image to an object, to the background, or to nothing.

    Args:
        matcher: The matcher, which takes IoUs (M, N) of boxes and anchors.
        target: The ``boxes`` (M, 4) of the image. Where it has :data:`PADDED_SIZE`, anchors of
            cells outside of that area are ignored.
        anchors: The anchors of the image, (N, 4).

    Returns:
        For every anchor (N,) the index of its object, or :data:`NEGATIVE`, or :data:`IGNORED`.
    """
    boxes, inside = target["boxes"], None
    if PADDED_SIZE in target:
        # Anchors are centred on the corner of their cell, whose stride is many pixels.
        centres = (anchors[:, :2] + anchors[:, 2:]) / 2
        inside = (centres.round() < target[PADDED_SIZE].flip(0)).all(dim=1)
    if len(boxes):
        iou = box_iou(boxes, anchors)
        # An anchor outside is no box's best, and is ignored in the end.
        matched: Tensor = matcher(iou if inside is None else iou.masked_fill(~inside, -1.0))
    else:
        matched = torch.full((len(anchors),), NEGATIVE, device=anchors.device)
    return matched if inside is None else matched.masked_fill(~inside, IGNORED)
