"""Boxes as the deltas that a head predicts, and back."""

import math

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from limbeck.presets import Preset

Weights = tuple[float, float, float, float]


class BoundedBoxCoder(BoxCoder):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ``BoxCoder``, which bounds how far a box grows, and here how it shrinks, too.

    It is mmdetection's ``DeltaXYWHBBoxCoder`` with ``wh_ratio_clip=16/1000``: dw and dh lie within
    log(1000/16) on both sides.
    """

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Decode (N, 4 * K) deltas from (N, 4) boxes, xyxy -> (N, 4 * K) boxes."""
        _, _, width, height = (-self.bbox_xform_clip * weight for weight in self.weights)
        least = rel_codes.new_tensor([-math.inf, -math.inf, width, height])
        bounded = torch.maximum(rel_codes, least.repeat(rel_codes.shape[1] // 4))
        decoded: Tensor = super().decode_single(bounded, boxes)
        return decoded


def box_coder(preset: Preset, weights: Weights) -> BoxCoder:
    """The box coder of a preset.

    Args:
        preset: The numerics of the detector.
        weights: The factors of dx, dy, dw and dh in what a head has to predict.

    Returns:
        The coder.
    """
    return (BoundedBoxCoder if preset.bounded_shrinking else BoxCoder)(weights)
