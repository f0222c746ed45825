"""The margins of a teacher's channels, and the distance that stops at them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.landmarks import norm_of, resolve
from limbeck.tap import TapError


def norm_before(teacher: nn.Module, place: str) -> nn.Module | None:
    """The norm that ends a place of the teacher; None where none does, as in an FPN's levels."""
    tap = resolve(teacher, place)
    if tap.keys or tap.select:  # an item of an output that many modules had a part in
        return None
    try:
        return norm_of(teacher, place)
    except TapError:
        return None


def margin_of(norm: nn.Module | None) -> Tensor:
    """E[X | X < 0] of a channel X ~ N(beta, gamma^2), from gain and shift of its norm.

    Where P(X < 0) is at most 0.001 it is -3 |gamma|, as published: a jump. A constant channel
    (gamma 0) has the limit of both: beta where negative, else 0.

    Args:
        norm: Any norm. A gain that it lacks is 1, a shift that it lacks is 0; None lacks both.

    Returns:
        The margin of each channel, (C,), float32; a scalar where there are no gains.
    """
    weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    gamma = torch.ones(()).double() if weight is None else weight.detach().double().abs()
    beta = torch.zeros_like(gamma) if bias is None else bias.detach().double()
    ratio = beta / gamma
    negative = torch.special.ndtr(-ratio)  # P(X < 0)
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    expected = beta - gamma * density / negative
    return torch.where(negative > 0.001, expected, -3 * gamma).float()


def partial_distance(student: Tensor, target: Tensor, margin: Tensor) -> Tensor:
    """Squared distance to the target above its margin, but not from below to a negative one.

    Args:
        student: The student's map s behind its norm, (B, S, H, W).
        target: The reduced teacher's map, (B, S, H, W).
        margin: The reduced margins m, (1, S, 1, 1).

    Returns:
        A scalar, the sum over all elements.
    """
    target = torch.maximum(target, margin)
    counted = (student > target) | (target > 0)
    # A product with numbers: one with booleans, or where(), is slower in the backward pass.
    return (F.mse_loss(student, target, reduction="none") * counted.to(student)).sum()
