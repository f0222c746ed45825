"""The golden numbers of the modern methods, and steps that are made of tensors."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.methods import Side, Step
from limbeck.methods.base import Targets


def case_of(shared: Path, file: str, name: str) -> dict[str, Tensor]:
    """The arrays of one case, by their names without the case's."""
    with np.load(shared / "golden/modern" / file) as arrays:
        return {
            key.removeprefix(f"{name}."): torch.from_numpy(arrays[key])
            for key in arrays.files
            if key.startswith(f"{name}.")
        }


def step_of(student: dict[str, Any], teacher: dict[str, Any], targets: Targets = None) -> Step:
    """A step in which both models gave these features."""
    sides = [Side(nn.Identity(), features) for features in (student, teacher)]
    return Step([], targets, *sides, number=0, world_size=1)


def assert_loss(found: Tensor, expected: Tensor) -> None:
    """The loss is the published code's, in float32."""
    assert found.dtype is torch.float32
    torch.testing.assert_close(found.detach().double(), expected.double(), rtol=1e-4, atol=1e-7)


def assert_gradient(found: Tensor | None, expected: Tensor) -> None:
    """The gradient is the published code's, within a thousandth of its largest value."""
    assert found is not None
    allowed = 1e-3 * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=allowed)
