"""Rounding to 8 bits and back, with ranges that are observed."""

import torch
from torch import Tensor, nn

_AVERAGING = 0.01  # the share of each training batch in the ranges of the layers' inputs
_LEAST_SCALE = torch.finfo(torch.float32).eps


class FakeQuantize(nn.Module):
    """Rounds values to 8 bits and gives them as floats again, as an INT8 runtime sees them.

    Activations are rounded to 0 to 255 by one scale and one zero point, which suits what a ReLU
    gives; weights to -127 to 127 by a scale for each output channel, symmetrically (Jacob et al.,
    CVPR 2018, section 2.1, and Krishnamoorthi, arXiv 1806.08342, section 2). The gradient passes
    through, and is 0 where a value lies outside of its range.

    In training mode ranges follow the values: those of activations as an exponential moving
    average, those of weights at once. In evaluation mode they stay. The ranges always hold 0, which
    is rounded to itself, so that padding costs nothing.

    Args:
        channels: The number of output channels of a weight, its first axis. None: it is for
            activations.

    Attributes:
        averaging: The share of a batch in the ranges, above 0 and up to 1. With 1 they are the
            batch's own.
        rounds: Whether values are rounded at all.
        low: The lower ends of the ranges, (channels,) or (1,).
        high: Their upper ends, of the same shape.
        scale: The step between two of the values, of the same shape.
        zero_point: The integer that stands for 0, of the same shape.
    """

    low: Tensor
    high: Tensor
    scale: Tensor
    zero_point: Tensor
    observed: Tensor

    def __init__(self, channels: int | None = None) -> None:
        super().__init__()
        self.channels = channels
        self.rounds = True
        self.averaging = _AVERAGING if channels is None else 1.0
        for name in ("low", "high"):
            self.register_buffer(name, torch.zeros(channels or 1))
        self.register_buffer("scale", torch.ones(channels or 1))
        self.register_buffer("zero_point", torch.zeros(channels or 1, dtype=torch.int32))
        self.register_buffer("observed", torch.zeros((), dtype=torch.bool))

    def forward(self, values: Tensor) -> Tensor:
        """Round values.

        Args:
            values: Any tensor; for a weight (channels, ...).

        Returns:
            The rounded values, of the same shape and type.
        """
        full = values.float()  # half precision has not the digits of a step
        if self.training:
            self._observe(full.detach())
        if not self.rounds:
            return values
        if self.channels is None:
            rounded = torch.fake_quantize_per_tensor_affine(
                full, self.scale[0], self.zero_point[0], 0, 255
            )
        else:
            rounded = torch.fake_quantize_per_channel_affine(
                full, self.scale, self.zero_point, 0, -128, 127
            )
        return rounded.to(values.dtype)

    @torch.no_grad()
    def _observe(self, values: Tensor) -> None:
        rows = values.reshape(1 if self.channels is None else self.channels, -1)
        low, high = rows.amin(1), rows.amax(1)  # aminmax along an axis takes 20 times as long
        share = torch.where(self.observed, self.averaging, 1.0)
        self.low.lerp_(low.clamp(max=0), share)
        self.high.lerp_(high.clamp(min=0), share)
        self.observed.fill_(True)
        if self.channels is None:
            self.scale.copy_(((self.high - self.low) / 255).clamp(min=_LEAST_SCALE))
            self.zero_point.copy_((-self.low / self.scale).round())
        else:
            largest = torch.maximum(self.high, -self.low)
            self.scale.copy_((largest / 127).clamp(min=_LEAST_SCALE))
