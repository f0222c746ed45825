"""Boxes from the deltas that a head predicts."""

import math

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from limbeck.presets import Preset

Weights = tuple[float, float, float, float]


class BoundedBoxCoder(BoxCoder):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ``BoxCoder``, which bounds growth alone, with the bound of shrinking too.

    mmdetection's ``DeltaXYWHBBoxCoder`` with ``wh_ratio_clip=16/1000``: dw and dh lie within
    log(1000/16) on both sides.
    """

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """(N, 4 * K) deltas from (N, 4) boxes, xyxy -> (N, 4 * K) boxes."""
        _, _, width, height = (-self.bbox_xform_clip * weight for weight in self.weights)
        least = rel_codes.new_tensor([-math.inf, -math.inf, width, height])
        bounded = torch.maximum(rel_codes, least.repeat(rel_codes.shape[1] // 4))
        decoded: Tensor = super().decode_single(bounded, boxes)
        return decoded


def box_coder(preset: Preset, weights: Weights) -> BoxCoder:
    """The preset's coder: ``weights`` multiply (dx, dy, dw, dh) of what a head has to predict."""
    return (BoundedBoxCoder if preset.bounded_shrinking else BoxCoder)(weights)
