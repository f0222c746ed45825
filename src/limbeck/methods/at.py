"""Attention transfer.

Zagoruyko, Komodakis: Paying More Attention to Attention. ICLR 2017, arXiv:1612.03928, the
activation-based form. Where a map X (B, C, H, W) is active says what its network looks at. With
N = H * W,

    Q(X) = (mean over channels of X^2), flattened to N, divided by its norm
    L    = mean over images and positions of (Q(S) - Q(T))^2

of the student's map S and the teacher's T, which may have any channels. Each place is a part of its
own. The paper sums over positions and halves the sum; the authors' code takes the mean, as it is
here, and the ``weight`` of 1000 belongs to the mean. Of maps of two sizes the larger is averaged
down to the smaller, as in mdistiller's form of the method; here height and width are compared
separately.

An image on which a map of the student is 0 everywhere has no gradient.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from limbeck import adapters
from limbeck.methods.maps import MapMethod
from limbeck.methods.places import Places
from limbeck.schedules import Weight


class AT(MapMethod):
    """Attention transfer: the student looks where the teacher looks.

    It needs no labels and no adapters. The published values are a weight of 1000, on ImageNet at
    the places C2 to C5, and in networks for CIFAR at the ends of the three groups.

    Args:
        places: Places that both models have, such as ``["C4", "C5"]``; or, where they differ,
            ``{student's place: teacher's place}``.
        weight: The weight of every place: a number or a schedule.
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Raises:
        TypeError: ``places`` is one string.
        ValueError: There is no place.
    """

    needs_targets = False
    explained = "What both networks look at: how active a map is at each position."

    def __init__(
        self,
        places: Places = ("C2", "C3", "C4", "C5"),
        weight: Weight = 1000.0,
        teacher: str | None = None,
    ) -> None:
        super().__init__(places, weight)
        self.teacher = teacher

    def adapter(self, student: Tensor, teacher: Tensor) -> None:
        """Make none: any channels, heights and widths will do."""

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss L of one place."""
        size = [min(sides) for sides in zip(student.shape[2:], teacher.shape[2:], strict=True)]
        q_s, q_t = (
            attention(adapters.resized(x.float(), size, "area")) for x in (student, teacher)
        )
        return F.mse_loss(q_s, q_t)

    def shown(self, student: Tensor, teacher: Tensor) -> Mapping[str, Tensor]:
        """The attention Q of both, which is flat in the loss."""
        return {
            side: attention(x).view_as(x[:, 0])
            for side, x in (("teacher", teacher), ("student", student))
        }


def attention(feature: Tensor) -> Tensor:
    """Where a map (B, C, H, W) in float32 is active, Q: (B, H * W), of norm 1 for each image."""
    return F.normalize(feature.square().mean(dim=1).flatten(1), dim=1)
