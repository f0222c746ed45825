"""Adapters: the small trained modules that bring student features to the teacher's shape.

They are sized from what the taps saw in the dry pass, so that a recipe names places and no numbers
of channels. Adapters belong to the method, never to the student.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Resizing = Literal["area", "bilinear"]
Resized = Literal["student", "teacher"]
# What is said where a feature is no map.
TOKENS = "; a teacher's tokens (B, N, C) are maps in a limbeck.models.FeatureTeacher"


def convolution(
    student: Tensor, teacher: Tensor, kernel_size: int = 1, bias: bool = True
) -> nn.Conv2d:
    """A convolution from the student's channels to the teacher's that keeps height and width.

    Args:
        student: The student's feature, (B, C_S, H, W).
        teacher: The teacher's feature, (B, C_T, H, W).
        kernel_size: The height and width of the kernel, odd.
        bias: Whether it has a bias.

    Returns:
        The convolution, with PyTorch's initial weights.

    Raises:
        ValueError: The features are no maps, their heights and widths differ, or no kernel of that
            size keeps them.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size={kernel_size}: expected 1, 3, 5, ..., which keep the size")
    for side, feature in (("student", student), ("teacher", teacher)):
        if feature.dim() != 4:
            raise ValueError(
                f"the {side}'s feature has shape {tuple(feature.shape)}; a convolution needs "
                f"(B, C, H, W). Use a linear adapter for (B, C){TOKENS}."
            )
    same_map(student, teacher)
    padding = kernel_size // 2
    channels = student.shape[1], teacher.shape[1]
    return nn.Conv2d(*channels, kernel_size, padding=padding, bias=bias)


def channel_convolution(student: Tensor, teacher: Tensor) -> nn.Conv2d | None:
    """A 1x1 convolution with a bias from the student's channels to the teacher's, if these differ.

    Args:
        student: The student's feature, (B, C_S, H, W).
        teacher: The teacher's feature, (B, C_T, H, W).

    Returns:
        The convolution, with PyTorch's initial weights. None: there are as many channels.

    Raises:
        ValueError: The features are no maps, or their heights and widths differ.
    """
    made = convolution(student, teacher)
    return None if made.in_channels == made.out_channels else made


def convolved_at(convolution: nn.Conv2d, feature: Tensor, where: tuple[Tensor, ...]) -> Tensor:
    """What a convolution that keeps height and width gives at some positions alone.

    Its cost is the whole convolution's times the share of the map that the positions are.

    Args:
        convolution: A convolution of an odd, square kernel, stride 1, and half the kernel as
            padding.
        feature: What is convolved, (B, C, H, W).
        where: The image, row and column of each of the P positions, (P,) each.

    Returns:
        The output at the positions, (P, C_out).
    """
    size, _ = convolution.kernel_size
    rows = F.pad(feature, (size // 2,) * 4).permute(0, 2, 3, 1)  # (B, H + 2p, W + 2p, C)
    height, width = rows.shape[1:3]
    image, row, column = where
    reach = torch.arange(size, device=feature.device)
    cells = ((image * height + row) * width + column)[:, None]  # the window's upper left corner
    cells = cells + (reach[:, None] * width + reach).flatten()
    windows = rows.reshape(-1, rows.shape[-1]).index_select(0, cells.flatten())
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)  # (C_out, k * k * C)
    return F.linear(windows.view(len(image), weight.shape[1]), weight, convolution.bias)


def linear(student: Tensor, teacher: Tensor) -> nn.Linear:
    """A linear map from the student's last dimension to the teacher's.

    Args:
        student: The student's feature, (B, C_S).
        teacher: The teacher's feature, (B, C_T).

    Returns:
        The linear layer, with a bias and PyTorch's initial weights.

    Raises:
        ValueError: Any other dimension differs.
    """
    if student.shape[:-1] != teacher.shape[:-1]:
        raise ValueError(
            f"the student's feature {tuple(student.shape)} and the teacher's "
            f"{tuple(teacher.shape)} differ in more than their last dimension, which is all that "
            "a linear adapter changes. Use a convolution for (B, C, H, W)."
        )
    return nn.Linear(student.shape[-1], teacher.shape[-1])


def resized(feature: Tensor, size: Sequence[int], mode: Resizing) -> Tensor:
    """A map brought to another height and width.

    Args:
        feature: The map, (B, C, H, W).
        size: The height and width that it is brought to.
        mode: How: ``area`` takes the mean over the cells that fall together, ``bilinear`` the mean
            of the four nearest cells, weighted by distance; both maps have the same outer corners.

    Returns:
        The map, (B, C, height, width), in that size; the map itself where it has it already.
    """
    if feature.shape[2:] == tuple(size):
        return feature
    return F.interpolate(feature, tuple(size), mode=mode)


def of_one_size(student: Tensor, teacher: Tensor, resize: Resized) -> tuple[Tensor, Tensor]:
    """Two maps of one height and width, of which one is resized bilinearly.

    Args:
        student: The student's map, (B, C_S, H_S, W_S).
        teacher: The teacher's map, (B, C_T, H_T, W_T).
        resize: Whose map is resized to the other's size.

    Returns:
        The student's and the teacher's map.
    """
    if resize == "student":
        return resized(student, teacher.shape[2:], "bilinear"), teacher
    return student, resized(teacher, student.shape[2:], "bilinear")


def same_map(student: Tensor, teacher: Tensor) -> None:
    """Raise a ValueError unless both features (B, C, H, W) have the same height and width."""
    if student.shape[2:] != teacher.shape[2:]:
        raise ValueError(
            f"the student's feature {tuple(student.shape)} and the teacher's "
            f"{tuple(teacher.shape)} differ in height or width. Choose places of equal stride."
        )
