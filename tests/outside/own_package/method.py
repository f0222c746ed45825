"""A method to distil."""

from torch import Tensor
from torch.nn import functional as F

from limbeck.methods import Method, Step
from limbeck.schedules import Weight


class SpatialAttention(Method):
    """Makes the student look where its teacher looks, whatever their numbers of channels.

    L = || q(s) - q(t) ||^2 / B, where q of a map is the mean of its squares over channels, divided
    by its norm over places.

    Source: Zagoruyko and Komodakis, "Paying more attention to attention", arXiv:1612.03928.

    Args:
        place: The landmark or path at which both models are read.
        weight: The weight of the loss, a number or a schedule.
    """

    def __init__(self, place: str = "C2", weight: Weight = 1.0) -> None:
        super().__init__()
        self.student_taps = {"map": place}
        self.teacher_taps = {"map": place}
        self.weights = {"attention": weight}

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The unweighted loss of a batch."""
        student, teacher = step.student.features["map"], step.taught.features["map"]
        difference = attention(student) - attention(teacher)
        return {"attention": difference.square().sum(dim=1).mean()}


def attention(features: Tensor) -> Tensor:
    """Where a map (B, C, H, W) is large: (B, H * W), of norm 1."""
    return F.normalize(features.float().square().mean(dim=1).flatten(1), dim=1)
