"""Distillation by Pearson's correlation of feature maps.

Cao, Zhang, Gao, Cheng, Cheng, Zhang: PKD: General Distillation Framework for Object Detectors via
Pearson Correlation Coefficient. NeurIPS 2022, arXiv:2207.02039. Maps of two kinds of detectors
differ in size, and a few channels and levels of the teacher are much larger than all others. So
each channel c is standardised over the batch and all positions, n = B * H * W values:

    z(X) = (X - mean_c) / (std_c + 1e-6),    std unbiased
    L    = 1/2 * mean over all elements of (z(S) - z(T))^2  =  (n - 1) / n * (1 - r)

where r is the mean over channels of Pearson's correlation of the student's map S and the teacher's
T. Maps of two sizes are brought to one by bilinear resizing: the student's to the teacher's, or
the other way round. Each level is a part of its own.

A level that has one value a channel (n = 1, such as P7 of one image of 128 px) costs 0 here and has
a gradient of 0; the original is NaN. The standard deviation of a student's channel counts as no
less than a thousandth of the mean over its channels, as a channel without any variation has a
gradient 1e6 times too large in the original; a map in which no channel varies has none here.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck import adapters
from limbeck.methods.maps import (
    SMALL,
    MapMethod,
    centred_channels,
    squares,
    standardised_channels,
)
from limbeck.methods.places import Places, are_of_classes
from limbeck.schedules import Weight


class PKD(MapMethod):
    """Distillation of maps by correlation, between detectors of one kind or of two.

    It needs no labels. The published values: a weight of 6 on P2 to P5 between two Faster R-CNNs,
    and of 10 on P3 to P6 (not P7) between one-stage detectors. The row of a Mask R-CNN as the
    teacher of a RetinaNet has maps of other strides: 6, on
    ``{"P3": "P2", "P4": "P3", "P5": "P4", "P6": "P5"}``.

    Args:
        places: Places that both models have, such as ``["P3", "P4"]`` or ``["fpn"]``; or, where
            they differ, ``{student's place: teacher's place}``.
        weight: The weight of every level: a number or a schedule.
        resize: Whose map is resized where heights or widths differ: the student's to the teacher's,
            which is published, or the teacher's to the student's.
        adapter: What brings the student's map to the teacher's channels: ``conv`` (1x1, not in the
            original) or ``none`` (for equal channels).
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Raises:
        TypeError: ``places`` is one string.
        ValueError: There is no place, or ``resize`` or ``adapter`` is none of these.
    """

    needs_targets = False
    explained = (
        "How far the student's map is from the teacher's at each position, with every channel of "
        "both at one scale."
    )

    def __init__(
        self,
        places: Places = ("P3", "P4", "P5", "P6"),
        weight: Weight = 10.0,
        resize: adapters.Resized = "student",
        adapter: Literal["conv", "none"] = "none",
        teacher: str | None = None,
    ) -> None:
        super().__init__(places, weight)
        self.teacher = teacher
        if resize not in get_args(adapters.Resized) or adapter not in ("conv", "none"):
            raise ValueError(
                f"resize={resize!r}, adapter={adapter!r}: expected student or teacher, and conv or "
                "none"
            )
        self.resize = resize
        self.convolved = adapter == "conv"
        self.compares_classes = not self.convolved and are_of_classes(places)

    def adapter(self, student: Tensor, teacher: Tensor) -> nn.Module | None:
        """A 1x1 convolution where channels differ, if it is asked for."""
        if student.shape[1] == teacher.shape[1]:
            return None
        if not self.convolved:
            raise ValueError(
                f"the student's map {tuple(student.shape)} and the teacher's "
                f"{tuple(teacher.shape)} differ in channels, which are compared one by one. "
                "Choose places of as many channels, or set adapter to conv."
            )
        return adapters.convolution(*adapters.of_one_size(student, teacher, self.resize))

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss L of one level."""
        return pearson_distance(
            *adapters.of_one_size(student.float(), teacher.float(), self.resize)
        )

    def shown(self, student: Tensor, teacher: Tensor) -> Mapping[str, Tensor]:
        """How far the standardised maps are apart, unless channels have one value."""
        pair = adapters.of_one_size(student, teacher, self.resize)
        return {"difference": squares(*of_one_scale(*pair))} if pair[0][:, 0].numel() > 1 else {}


def pearson_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared difference of standardised maps.

    Args:
        student: The student's map S, (B, C, H, W), in float32.
        teacher: The teacher's map T, (B, C, H, W), in float32.

    Returns:
        The loss L, a scalar: 0 where channels have one value.
    """
    if student[:, 0].numel() == 1:
        return 0 * student.sum()
    return F.mse_loss(*of_one_scale(student, teacher)) / 2


def of_one_scale(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """The maps z(S) and z(T), (B, C, H, W) each, of more than one value a channel."""
    centred, _, variance = centred_channels(teacher)
    return standardised_channels(student), centred / (variance.sqrt() + SMALL)
