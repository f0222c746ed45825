"""One map, and one margin, of the k teacher channels that guide a student channel."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Reducer = Literal["amp", "sp", "sp_mean", "rd", "sm"]


def guides(values: Tensor, flow: Tensor) -> Tensor:
    """What guides each student channel: (B, T, H, W) by the flow (S, k) to (B, k, S, H, W)."""
    chosen = values.index_select(1, flow.T.flatten())
    return chosen.unflatten(1, flow.T.shape)  # type: ignore[no-any-return,no-untyped-call]


def absolute_max(values: Tensor) -> Tensor:
    """The value of the largest magnitude, with its sign: (B, k, ...) to (B, ...)."""
    # Not by argmax of the magnitudes: that took ten times as long on a CPU.
    high, low = values.amax(1), values.amin(1)
    return torch.where(high > -low, high, low)


def random_member(values: Tensor) -> Tensor:
    """Any of the k values at each position: (B, k, ...) to (B, ...)."""
    shape = values[:, :1].shape
    chosen = torch.randint(values.shape[1], shape, device=values.device)
    return values.gather(1, chosen).squeeze(1)


def maximum(values: Tensor) -> Tensor:
    """The largest: (B, k, ...) to (B, ...)."""
    return values.amax(1)


def mean(values: Tensor) -> Tensor:
    """The mean: (B, k, ...) to (B, ...)."""
    return values.mean(1)


# Of the features, and of the margins.
REDUCERS: dict[Reducer, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "amp": (absolute_max, mean),
    "sp": (maximum, maximum),
    "sp_mean": (mean, mean),
    "rd": (random_member, random_member),
    "sm": (maximum, maximum),
}
