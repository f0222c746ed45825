"""The losses of one distillation step: named scalars, raw and weighted, and their sum."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Losses(Mapping[str, Tensor]):
    """The weighted losses of a step by name, ``student/<name>`` and ``<method>/<part>``.

    Attributes:
        raw: The losses without their weights, float32 scalars whatever the precision.
        weights: The weight of each loss at this step.
    """

    raw: Mapping[str, Tensor]
    weights: Mapping[str, float]

    def __getitem__(self, name: str) -> Tensor:
        """The loss of that name, weighted."""
        return self.raw[name] * self.weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def total(self) -> Tensor:
        """The sum of the weighted losses, which is what to differentiate."""
        return torch.stack([self[name].float() for name in self]).sum()


def refuse_half(losses: Mapping[str, Tensor]) -> None:
    """Raise a TypeError where a loss was computed in half precision: a later cast is too late."""
    for name, loss in losses.items():
        if loss.dtype in (torch.float16, torch.bfloat16):
            raise TypeError(
                f"the loss {name} is {str(loss.dtype).removeprefix('torch.')}; expected float32, "
                "whatever the precision of the networks. Call .float() on the features before the "
                "method's arithmetic begins."
            )


def student_losses(outputs: object, targets: object) -> dict[str, Tensor]:
    """The student's own losses.

    Args:
        outputs: What the student returned in training mode: a mapping of named losses, as
            torchvision's detectors give, or logits (B, K), which get a cross-entropy.
        targets: Class indices (B,) for logits.

    Returns:
        The losses by name, scalars.

    Raises:
        TypeError: The student returned neither.
    """
    if isinstance(outputs, Mapping) and outputs:
        return {str(name): loss for name, loss in outputs.items()}
    if isinstance(outputs, Tensor) and isinstance(targets, Tensor):
        return {"cross_entropy": torch.nn.functional.cross_entropy(outputs.float(), targets)}
    raise TypeError(
        f"the student returned a {type(outputs).__name__} for targets that are a "
        f"{type(targets).__name__}. Expected, in training mode, a mapping of losses or logits "
        "(B, K) with class indices. For anything else give Distillation a student_loss."
    )
