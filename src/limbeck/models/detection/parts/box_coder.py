"""Boxes as the deltas that a head predicts, and back."""

import torch
from torch import Tensor
from torchvision.models.detection import _utils

from limbeck.presets import Preset

Weights = tuple[float, float, float, float]


class BoxCoder(_utils.BoxCoder):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ``BoxCoder``, with the same results, and no constants that come from the host.

    torchvision brings its weights and a 0.5 to the device in every call, for each of which a GPU is
    waited for.
    """

    def encode_single(self, reference_boxes: Tensor, proposals: Tensor) -> Tensor:
        """Encode boxes (N, 4), xyxy, as the deltas (N, 4) from the proposals (N, 4)."""
        wx, wy, ww, wh = self.weights
        x, y, width, height = _centre_form(proposals)
        own_x, own_y, own_width, own_height = _centre_form(reference_boxes)
        deltas = (
            wx * (own_x - x) / width,
            wy * (own_y - y) / height,
            ww * torch.log(own_width / width),
            wh * torch.log(own_height / height),
        )
        return torch.cat(deltas, dim=1)

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Decode (N, 4 * K) deltas from (N, 4) boxes, xyxy -> (N, 4 * K) boxes."""
        x, y, width, height = _centre_form(boxes.to(rel_codes.dtype))
        dx, dy, dw, dh = (rel_codes[:, i::4] for i in range(4))
        wx, wy, ww, wh = self.weights
        x, y = dx / wx * width + x, dy / wy * height + y
        half_width = 0.5 * (self._growth(dw, ww).exp() * width)
        half_height = 0.5 * (self._growth(dh, wh).exp() * height)
        corners = (x - half_width, y - half_height, x + half_width, y + half_height)
        return torch.stack(corners, dim=2).flatten(1)

    def _growth(self, delta: Tensor, weight: float) -> Tensor:
        """The logarithm of a side over the proposal's, within its bounds."""
        return (delta / weight).clamp(max=self.bbox_xform_clip)


class BoundedBoxCoder(BoxCoder):
    """A ``BoxCoder`` that bounds not only how far a box grows, but how far it shrinks, too.

    It is mmdetection's ``DeltaXYWHBBoxCoder`` with ``wh_ratio_clip=16/1000``: dw and dh lie within
    log(1000/16) on both sides.
    """

    def _growth(self, delta: Tensor, weight: float) -> Tensor:
        return super()._growth(delta.clamp(min=-self.bbox_xform_clip * weight), weight)


def box_coder(preset: Preset, weights: Weights) -> BoxCoder:
    """The box coder of a preset.

    Args:
        preset: The numerics of the detector.
        weights: The factors of dx, dy, dw and dh in what a head has to predict.

    Returns:
        The coder.
    """
    return (BoundedBoxCoder if preset.bounded_shrinking else BoxCoder)(weights)


def _centre_form(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The centres' x and y, the widths and the heights of boxes (N, 4), each (N, 1)."""
    x1, y1, x2, y2 = torch.split(boxes, 1, dim=1)
    width, height = x2 - x1, y2 - y1
    return x1 + 0.5 * width, y1 + 0.5 * height, width, height
