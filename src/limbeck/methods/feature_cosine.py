"""Distillation of features by the cosine of their vectors.

After Liao, Zhao, Shan, Yan, Liu, Lu, Ji, Chen: RT-DETRv4: Painlessly Furthering Real-Time Object
Detection with Vision Foundation Models. 2025, arXiv:2510.25257; and Ranzinger, Heinrich, Kautz,
Molchanov: AM-RADIO: Agglomerative Vision Foundation Model. CVPR 2024, arXiv:2312.06709. What a
foundation model such as DINOv3 knows of a position is the direction of its feature vector. With the
student's map S (B, C_S, H, W), which a 1x1 convolution r projects to the C_T channels of the
teacher's map T,

    L = mean over images and positions of 1 - <r(S), T> / (|r(S)| |T|)

where the scalar product and the norms are over the channels. Maps of two sizes are brought to one
by bilinear resizing (``align_corners=False``, so that both have the same outer corners): the
teacher's to the student's, or the other way round. All positions of a padded batch count. Each
level is a part of its own.

It is the cosine alone. RT-DETRv4 also moves the weight while it trains, by the gradients of its
losses; here the weight is a number or a schedule, and ``limbeck`` says after the first steps how
strongly each loss pulls. AM-RADIO has a smooth L1 distance beside the cosine; take FitNet for one.

A position at which r(S) or T is 0 has no direction: it costs 1 and has no gradient.
"""

from collections.abc import Mapping
from typing import Literal, get_args

from torch import Tensor, linalg, nn

from limbeck import adapters
from limbeck.methods.maps import MapMethod
from limbeck.methods.places import Places
from limbeck.schedules import Weight

Adapter = Literal["conv", "none"]
_SMALL = 1e-6  # a vector of this norm or less has no direction


class FeatureCosine(MapMethod):
    """The student's features learn the directions of the teacher's, position by position.

    It needs no labels. It is for teachers whose features are worth more than their outputs, such as
    a vision transformer that was trained without labels, in a
    :class:`limbeck.models.FeatureTeacher`.

    Args:
        places: Places that both models have, such as ``["P4", "P5"]``; or, where they differ,
            ``{student's place: teacher's place}``, such as ``{"C5": "grid"}``.
        weight: The weight of every level: a number or a schedule.
        adapter: What projects the student's map to the teacher's channels: ``conv`` (1x1) or
            ``none`` (for equal channels).
        resize: Whose map is resized where heights or widths differ: the teacher's to the student's,
            or the student's to the teacher's.
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Raises:
        TypeError: ``places`` is one string.
        ValueError: There is no place, or ``adapter`` or ``resize`` is none of these.
    """

    needs_targets = False
    explained = (
        "How far the student's features, behind the adapter, point away from the teacher's: one "
        "minus the cosine of the two at each position."
    )

    def __init__(
        self,
        places: Places,
        weight: Weight = 1.0,
        adapter: Adapter = "conv",
        resize: adapters.Resized = "teacher",
        teacher: str | None = None,
    ) -> None:
        super().__init__(places, weight)
        self.teacher = teacher
        if adapter not in get_args(Adapter) or resize not in get_args(adapters.Resized):
            raise ValueError(
                f"adapter={adapter!r}, resize={resize!r}: expected conv or none, and student or "
                "teacher"
            )
        self.projects = adapter == "conv"
        self.resize = resize

    def adapter(self, student: Tensor, teacher: Tensor) -> nn.Module | None:
        """A 1x1 convolution, unless there is to be none."""
        if self.projects:
            return adapters.convolution(*adapters.of_one_size(student, teacher, self.resize))
        if student.shape[1] != teacher.shape[1]:
            raise ValueError(
                f"the student's map {tuple(student.shape)} and the teacher's "
                f"{tuple(teacher.shape)} differ in channels, of which the cosine needs as many. "
                "Choose places of as many channels, or set adapter to conv."
            )
        return None

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss L of one level."""
        return cosine_distance(*adapters.of_one_size(student.float(), teacher.float(), self.resize))

    def shown(self, student: Tensor, teacher: Tensor) -> Mapping[str, Tensor]:
        """One minus the cosine at each position."""
        return {
            "difference": (1 - cosines(*adapters.of_one_size(student, teacher, self.resize))).clamp(
                min=0
            )
        }


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the mean cosine of the vectors of two maps.

    Args:
        student: The student's map r(S), (B, C, H, W), in float32.
        teacher: The teacher's map T, (B, C, H, W), in float32.

    Returns:
        The loss L, a scalar from 0 to 2.
    """
    distance: Tensor = 1 - cosines(student, teacher).mean()
    return distance


def cosines(student: Tensor, teacher: Tensor) -> Tensor:
    """The cosine of the vectors of two maps (B, C, H, W) at each position, (B, H, W)."""
    norms = [linalg.vector_norm(x, dim=1) for x in (student, teacher)]  # (B, H, W) each
    products = (student * teacher).sum(dim=1)
    quotients: Tensor = products / (norms[0].clamp(min=_SMALL) * norms[1].clamp(min=_SMALL))
    undirected = (norms[0] <= _SMALL) | (norms[1] <= _SMALL)
    return quotients.masked_fill(undirected, 0.0)
