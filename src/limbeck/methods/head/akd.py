"""Assist distillation (AKD): the assist learns the teacher's hidden layers."""

from collections.abc import Sequence

from torch import Tensor, nn

from limbeck import adapters


class AKD(nn.Module):
    """Mean squared error between the assist's adapted hidden layers and the teacher's.

        L_i = mean over regions and channels of (W_i s_i + b_i - t_i)^2

    Args:
        student: The assist's hidden layers s_i, (R, S) each.
        teacher: The teacher's hidden layers t_i, (R, T) each.

    Raises:
        ValueError: There are not as many layers of each.
    """

    def __init__(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
        super().__init__()
        if len(student) != len(teacher):
            raise ValueError(
                f"the assist has {len(student)} hidden layers, the teacher's box head "
                f"{len(teacher)}. AKD compares layer by layer: leave `transfer` on, so that the "
                "assist is of the teacher's kind, or switch AKD off."
            )
        pairs = zip(student, teacher, strict=True)
        self.adapters = nn.ModuleList(adapters.linear(s, t) for s, t in pairs)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
        """One loss for each layer, numbered from 1. All regions count, also of the background."""
        layers = enumerate(zip(self.adapters, student, teacher, strict=True), 1)
        return {f"akd.{i}": squared_error(adapter(s), t) for i, (adapter, s, t) in layers}


def squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean of the squared difference over all elements, 0 where there are none."""
    difference = student.float() - teacher.float()
    return difference.square().sum() / max(difference.numel(), 1)
