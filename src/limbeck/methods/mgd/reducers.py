"""The reduction of the k teacher channels that guide a student channel to one map and margin."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Reducer = Literal["amp", "sp", "sp_mean", "rd", "sm"]


def guides(values: Tensor, flow: Tensor) -> Tensor:
    """The channels that guide each student channel: (B, T, H, W), (S, k) to (B, k, S, H, W)."""
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
    """The largest value: (B, k, ...) to (B, ...)."""
    return values.amax(1)


def mean(values: Tensor) -> Tensor:
    """The mean of the values: (B, k, ...) to (B, ...)."""
    return values.mean(1)


# How features are reduced, and how margins are.
REDUCERS: dict[Reducer, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "amp": (absolute_max, mean),
    "sp": (maximum, maximum),
    "sp_mean": (mean, mean),
    "rd": (random_member, random_member),
    "sm": (maximum, maximum),
}
