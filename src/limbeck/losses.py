"""The losses of one distillation step: named scalars, raw and weighted, and their sum."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.guard import refuse_bad_indices


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


def named_scalars(losses: Any, source: str) -> dict[str, Tensor]:
    """Losses by name, after it was checked that each is one.

    Args:
        losses: What should be losses.
        source: Who gave them, such as ``the student``, for the message.

    Returns:
        The losses by name, scalars.

    Raises:
        TypeError: They have no names, or one of them is no scalar tensor.
    """
    if not isinstance(losses, Mapping):
        raise TypeError(
            f"{source} gives a {type(losses).__name__}; expected named losses, a mapping from "
            'names to scalar tensors. Return {"name": loss}.'
        )
    if all(_is_scalar(loss) for loss in losses.values()):
        return {str(name): loss.reshape(()) for name, loss in losses.items()}
    raise TypeError(
        f"{source} gives {_found(losses)}; expected named losses, and a named loss is a scalar "
        "tensor. Reduce each to its mean, or give Distillation a student_loss, a function of the "
        "student's output and the targets that makes losses of what is none."
    )


def _is_scalar(loss: Any) -> bool:
    return isinstance(loss, Tensor) and loss.shape in ((), (1,))


def _found(outputs: Mapping[str, Any]) -> str:
    """What a mapping holds, such as ``{logits: (4, 3)}``."""
    shown = (
        f"{name}: {tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}"
        for name, value in outputs.items()
    )
    return f"{{{', '.join(shown)}}}"


def logits_of(outputs: object) -> Tensor | None:
    """The logits (B, K) in what a classifier returned.

    Args:
        outputs: The logits, or a mapping that holds them as ``logits`` and holds no scalar, which
            would be a loss: what Hugging Face's classifiers return.

    Returns:
        The logits. None: there are none.
    """
    if isinstance(outputs, Mapping) and not any(map(_is_scalar, outputs.values())):
        outputs = outputs.get("logits")
    return outputs if isinstance(outputs, Tensor) and outputs.dim() == 2 else None


def student_losses(outputs: object, targets: object) -> dict[str, Tensor]:
    """The student's own losses.

    Args:
        outputs: What the student returned in training mode: a mapping of named losses, as
            torchvision's detectors give, or logits (B, K), which get a cross-entropy. A mapping
            with ``logits``, as Hugging Face's classifiers give, stands for these.
        targets: Class indices (B,) for logits.

    Returns:
        The losses by name, scalars.

    Raises:
        TypeError: The student returned neither.
        ValueError: The targets are no class indices of these logits.
    """
    logits = logits_of(outputs)
    if logits is not None and isinstance(targets, Tensor):
        refuse_bad_indices(targets, logits.shape)
        return {"cross_entropy": torch.nn.functional.cross_entropy(logits.float(), targets)}
    if isinstance(outputs, Mapping) and outputs:
        return named_scalars(outputs, "the student")
    raise TypeError(
        f"the student returned a {type(outputs).__name__} for targets that are a "
        f"{type(targets).__name__}. Expected, in training mode, a mapping of losses or logits "
        "(B, K) with class indices. For anything else give Distillation a student_loss."
    )
