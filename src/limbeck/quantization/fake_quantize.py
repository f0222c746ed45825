"""Rounding to 8 bits and back, with ranges that are observed."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

_RANGES = ("low", "high", "scale", "pass_low", "pass_high")
AVERAGING = 0.01  # the share of each pass of training in the ranges of activations
_LEAST_SCALE = torch.finfo(torch.float32).eps


class FakeQuantize(nn.Module):
    """Rounds values to 8 bits and gives them as floats again, as an INT8 runtime sees them.

    Activations are rounded to 0 to 255 by one scale and one zero point, which suits what a ReLU
    gives; weights to -127 to 127 by a scale for each output channel, symmetrically (Jacob et al.,
    CVPR 2018, section 2.1, and Krishnamoorthi, arXiv 1806.08342, section 2). The gradient passes
    through, and is 0 where a value lies outside of its range.

    In training mode ranges follow the values. Those of weights are the weights' own. Those of
    activations are an exponential moving average over passes of the network (:meth:`settle`) of the
    lowest and the highest value of a pass, in which a layer may run several times, as heads that
    levels share do. In evaluation mode ranges stay. They always hold 0, which is rounded to itself,
    so that padding costs nothing.

    Args:
        channels: The number of output channels of a weight, its first axis. None: it is for
            activations.

    Attributes:
        averaging: The share of a pass in the ranges of activations, above 0 and up to 1.
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
    pass_low: Tensor
    pass_high: Tensor
    in_pass: Tensor

    def __init__(self, channels: int | None = None) -> None:
        super().__init__()
        self.channels = channels
        self.rounds = True
        self.averaging = AVERAGING
        for name in ("low", "high"):
            self.register_buffer(name, torch.zeros(channels or 1))
        self.register_buffer("scale", torch.ones(channels or 1))
        self.register_buffer("zero_point", torch.zeros(channels or 1, dtype=torch.int32))
        self.register_buffer("observed", torch.zeros((), dtype=torch.bool))
        for name in ("pass_low", "pass_high"):
            self.register_buffer(name, torch.zeros(1), persistent=False)
        self.register_buffer("in_pass", torch.zeros((), dtype=torch.bool), persistent=False)

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> "FakeQuantize":
        """Move to another device; ranges stay float32, as halves have not the digits of a step."""
        before = {name: getattr(self, name) for name in _RANGES}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in before.items():
            moved = getattr(self, name)
            if moved.dtype is not value.dtype:
                setattr(self, name, value.to(moved.device))
        return self

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
    def settle(self) -> None:
        """Take the values of a pass into the ranges, at its end; of a layer that ran in it."""
        share = torch.where(self.observed, self.averaging, 1.0) * self.in_pass
        self.low.lerp_(self.pass_low, share)
        self.high.lerp_(self.pass_high, share)
        self.observed |= self.in_pass
        self._fit(self.low, self.high)
        for noted in (self.pass_low, self.pass_high, self.in_pass):
            noted.zero_()

    @torch.no_grad()
    def _observe(self, values: Tensor) -> None:
        rows = values.reshape(1 if self.channels is None else self.channels, -1)
        # aminmax along an axis takes 20 times as long.
        low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
        if self.channels is not None:
            self.low.copy_(low)
            self.high.copy_(high)
            self.observed.fill_(True)
            self._fit(low, high)
            return
        torch.minimum(self.pass_low, low, out=self.pass_low)
        torch.maximum(self.pass_high, high, out=self.pass_high)
        self.in_pass.fill_(True)
        # In the first pass there is nothing else to round by.
        first = ~self.observed
        self._fit(
            torch.where(first, self.pass_low, self.low),
            torch.where(first, self.pass_high, self.high),
        )

    def _fit(self, low: Tensor, high: Tensor) -> None:
        """Choose scale and zero point for ranges."""
        if self.channels is None:
            self.scale.copy_(((high - low) / 255).clamp(min=_LEAST_SCALE))
            self.zero_point.copy_((-low / self.scale).round())
        else:
            self.scale.copy_((torch.maximum(high, -low) / 127).clamp(min=_LEAST_SCALE))
