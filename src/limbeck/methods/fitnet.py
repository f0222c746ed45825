"""FitNets: hints from intermediate features.

Romero, Ballas, Kahou, Chassang, Gatta, Bengio: FitNets: Hints for Thin Deep Nets. ICLR 2015,
arXiv:1412.6550, equation 3: a regressor r brings the student's guided feature S to the shape of
the teacher's hint T, and

    L = mean (r(S) - T)^2

The paper sums and halves over one layer and trains it as a first stage; here, as in today's
practice and in the FitNet baseline of HEAD (ECCV 2022, the repository's ``configs/fitnet``), the
loss is the mean, stands beside the task's losses throughout, and takes any number of places. A
place that is a list over levels (an FPN) gets one adapter for each level, and the levels' losses
are summed. HEAD's baseline is ``FitNet(["fpn"])`` with ``transfer={"head": "head"}``.

With ``normalise`` a level's loss is divided by the variance of T over the batch, so that a weight
means the same in every network: 1 is the loss of always predicting the mean.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck import adapters
from limbeck.methods.base import Method, Step
from limbeck.methods.maps import STRONGER, squares
from limbeck.methods.pictures import OverImages, heat
from limbeck.methods.places import PlaceModules, Places, are_of_classes, paired
from limbeck.schedules import Weight

Adapter = Literal["conv", "linear", "none"]


class FitNet(Method):
    """Mean squared error between adapted student features and the teacher's.

    Args:
        places: Places that both models have, such as ``["fpn"]`` or ``["C4", "C5"]``; or, where
            they differ, ``{student's place: teacher's place}``.
        weight: The weight of every part: a number or a schedule.
        adapter: What brings the student's feature to the teacher's shape: ``conv`` (1x1, for maps),
            ``linear`` (for vectors), or ``none`` (for equal shapes).
        normalise: Whether each level's loss is divided by the variance of the teacher's feature.
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Raises:
        TypeError: ``places`` is one string.
        ValueError: There is no place, or ``adapter`` is none of these.
    """

    needs_targets = False

    def __init__(
        self,
        places: Places,
        weight: Weight = 1.0,
        adapter: Adapter = "conv",
        normalise: bool = False,
        teacher: str | None = None,
    ) -> None:
        super().__init__()
        if adapter not in get_args(Adapter):
            raise ValueError(
                f"FitNet's adapter is {adapter!r}; expected one of {', '.join(get_args(Adapter))}. "
                "Give one of them."
            )
        self.teacher = teacher
        pairs = paired(places)
        self.student_taps = dict(zip(pairs, pairs, strict=True))
        self.teacher_taps = pairs
        self.compares_classes = adapter == "none" and are_of_classes(pairs)
        self.weight = weight
        self.adapter = adapter
        self.normalise = normalise
        self.adapters = PlaceModules()

    def setup(self, step: Step) -> None:
        """Make one adapter for each level of each place."""
        student = step.student.by_level(self.student_taps)
        teacher = step.taught.by_level(self.teacher_taps)
        self.refuse_unpaired(student, teacher)
        for level, feature in student.items():
            with self.named(level):
                self.adapters[level] = self._adapter(feature, teacher[level])
        self.weights = dict.fromkeys(student, self.weight)

    def _adapter(self, student: Tensor, teacher: Tensor) -> nn.Module:
        if self.adapter == "conv":
            return adapters.convolution(student, teacher)
        if self.adapter == "linear":
            return adapters.linear(student, teacher)
        if student.shape != teacher.shape:
            raise ValueError(
                f"the student's feature is {tuple(student.shape)}, the teacher's "
                f"{tuple(teacher.shape)}. Unequal features need an adapter."
            )
        return nn.Identity()

    def forward(self, step: Step) -> dict[str, Tensor]:
        """One loss for each level, by the level's name."""
        teacher = step.taught.by_level(self.teacher_taps)
        losses = {}
        for level, feature in step.student.by_level(self.student_taps).items():
            with self.named(level):
                losses[level] = self._loss(self.adapters[level](feature), teacher[level])
        return losses

    def _loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        adapters.same_map(student, teacher)  # one network may round sizes up, the other down
        student, teacher = student.float(), teacher.float()
        loss = F.mse_loss(student, teacher)
        if not self.normalise:
            return loss
        # A dead feature is constant: nothing to learn from it, and no reason for a NaN.
        return loss / teacher.var().clamp(min=torch.finfo(torch.float32).eps)

    def picture(self, step: Step) -> OverImages | None:
        """How far each map is from the teacher's, behind its adapter."""
        teacher = step.taught.by_level(self.teacher_taps)
        maps = {
            level: squares(self.adapters[level](feature).float(), teacher[level].float())
            for level, feature in step.student.by_level(self.student_taps).items()
            if feature.dim() == 4
        }
        caption = (
            "How far the student's map, behind its adapter, is from the teacher's at each "
            f"position. {STRONGER}"
        )
        return OverImages(caption, heat(step.frame, maps)) if maps else None

    def adapter_of(self, student_tap: str) -> nn.Module | None:
        """The adapter of that place, or of its first level."""
        return self.adapters.at(student_tap)
