"""Channel-wise distillation.

Shu, Liu, Gao, Yan, Shen: Channel-wise Knowledge Distillation for Dense Prediction. ICCV 2021,
arXiv:2011.13256. Each channel of a map says where something is. The softmax over its N = H * W
positions makes a distribution of that, and the student learns the teacher's. With a temperature
tau, the teacher's map T and the student's S, brought to the C_T channels of T by a 1x1 convolution
where it has others,

    p[b, c, :] = softmax over positions of T[b, c, :] / tau
    q[b, c, :] = softmax over positions of S[b, c, :] / tau
    L          = tau^2 / (B * C_T) * sum over b, c of KL(p[b, c, :] || q[b, c, :])

Each level is a part of its own. A distribution sums to 1 on a map of any size, so that one weight
suits all levels. All positions of a padded batch count. The logarithm of a softmax is computed as
one function: the authors' code is infinite once a value lies 104 tau below its channel's largest.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck import adapters
from limbeck.methods.maps import MapMethod
from limbeck.methods.places import Places, are_of_classes
from limbeck.ranges import POSITIVE, refuse_outside
from limbeck.schedules import Weight


class CWD(MapMethod):
    """Channel-wise distillation of maps of equal stride: an FPN's, or a dense head's class maps.

    It needs no labels. The published values for detectors are tau 1, and a weight of 10 on all maps
    of the FPN, or of 5 on P3 to P6 (RetinaNet); those for segmentation, on class logits, are tau 4
    and a weight of 3.

    Args:
        places: Places that both models have, such as ``["fpn"]`` or ``["P3", "P4"]``; or, where
            they differ, ``{student's place: teacher's place}``. ``cls_maps`` are the class maps of
            a dense head.
        weight: The weight of every level: a number or a schedule.
        temperature: The temperature tau, above 0.
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Raises:
        TypeError: ``places`` is one string.
        ValueError: There is no place, or the temperature is not above 0.
    """

    needs_targets = False
    explained = (
        "Where the channels of both maps say that something is: the mean over the channels of "
        "their distributions over the positions."
    )

    def __init__(
        self,
        places: Places = ("fpn",),
        weight: Weight = 10.0,
        temperature: float = 1.0,
        teacher: str | None = None,
    ) -> None:
        super().__init__(places, weight)
        self.teacher = teacher
        self.compares_classes = are_of_classes(places)
        refuse_outside({"temperature": POSITIVE}, {"temperature": temperature})
        self.temperature = temperature

    def adapter(self, student: Tensor, teacher: Tensor) -> nn.Module | None:
        """A 1x1 convolution where channels differ, without a bias, which a softmax cancels."""
        adapters.same_map(student, teacher)
        if student.shape[1] == teacher.shape[1]:
            return None
        return adapters.convolution(student, teacher, bias=False)

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss L of one level."""
        return channel_divergence(student, teacher, self.temperature)

    def shown(self, student: Tensor, teacher: Tensor) -> Mapping[str, Tensor]:
        """The means over the channels of the distributions p and q."""
        return {
            side: (x.flatten(2) / self.temperature).softmax(dim=2).mean(dim=1).view_as(x[:, 0])
            for side, x in (("teacher", teacher), ("student", student))
        }


def channel_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The mean over images and channels of tau^2 * KL(p || q).

    Args:
        student: The student's map S, (B, C, H, W).
        teacher: The teacher's map T, (B, C, H, W).
        temperature: The temperature tau.

    Returns:
        The loss L, a scalar in float32.

    Raises:
        ValueError: Heights or widths differ.
    """
    adapters.same_map(student, teacher)  # one network may round sizes up, the other down
    q, p = (F.log_softmax(x.float().flatten(2) / temperature, dim=2) for x in (student, teacher))
    divergence = F.kl_div(q, p, reduction="sum", log_target=True)
    return temperature**2 * divergence / (len(q) * q.shape[1])
