"""Which ground truth every anchor has to predict."""

import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from limbeck.presets import Preset

NEGATIVE = Matcher.BELOW_LOW_THRESHOLD
IGNORED = Matcher.BETWEEN_THRESHOLDS
PADDED_SIZE = "padded_size"  # key of a target: (height, width) of the image's own padded area


class OwnBoxMatcher(Matcher):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ``Matcher``, whose best anchors of a box go to that box.

    mmdetection's ``MaxIoUAssigner``: for one box after the other, every anchor that ties for its
    best IoU is given to it, whatever the anchor had before. torchvision gives such an anchor to
    the box that fits the anchor best.

    Args:
        high: IoU from which an anchor is positive.
        low: IoU below which it is negative; between the two it is ignored.
        least: best IoU of a box below which its best anchors are not given to it
            (``min_pos_iou``).
    """

    def __init__(self, high: float, low: float, least: float) -> None:
        super().__init__(high, low, allow_low_quality_matches=True)
        self.least = least

    def set_low_quality_matches_(self, matches: Tensor, all_matches: Tensor, iou: Tensor) -> None:
        """Overwrite ``matches`` (N,) where ``iou`` (M, N) is the best of its row."""
        best = iou.amax(dim=1, keepdim=True)
        number = torch.arange(len(iou), device=iou.device)[:, None]
        winner = torch.where((iou == best) & (best >= self.least), number, -1).amax(dim=0)
        matches[winner >= 0] = winner[winner >= 0]


def matcher(preset: Preset, high: float, low: float, least: float) -> Matcher:
    """The preset's matcher of anchors; torchvision's and detectron2's know no ``least``."""
    if preset.own_box_first:
        return OwnBoxMatcher(high, low, least)
    return Matcher(high, low, allow_low_quality_matches=True)


def assign(matcher: Matcher, target: dict[str, Tensor], anchors: Tensor) -> Tensor:
    """Index of the ground truth of every anchor, or :data:`NEGATIVE`, or :data:`IGNORED`.

    Args:
        matcher: takes IoUs (M, N).
        target: ``boxes`` (M, 4) of one image; with :data:`PADDED_SIZE`, anchors of cells outside
            that area are ignored.
        anchors: (N, 4).

    Returns:
        (N,) integers.
    """
    boxes = target["boxes"]
    inside: Tensor | slice = slice(None)
    if PADDED_SIZE in target:
        # Anchors are centred on the corner of their cell, whose stride is many pixels.
        centres = (anchors[:, :2] + anchors[:, 2:]) / 2
        inside = (centres.round() < target[PADDED_SIZE].flip(0)).all(dim=1)
    matched = torch.full((len(anchors),), IGNORED, device=anchors.device)
    matched[inside] = matcher(box_iou(boxes, anchors[inside])) if len(boxes) else NEGATIVE
    return matched
