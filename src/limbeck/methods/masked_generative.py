"""Masked Generative Distillation.

Yang, Li, Shao, Shi, Yuan, Yuan: Masked Generative Distillation. ECCV 2022, arXiv:2205.01529, as
published in yzd-v/MGD. (Matching Guided Distillation, which is :class:`limbeck.methods.MGD`, is
another method.)

The student has to generate the teacher's whole map from a part of its own. With the student's map S
and the teacher's T, (B, C, H, W), of one level,

    L = 1 / B * sum over all elements of (G(M * align(S)) - T)^2

where ``align`` is a 1x1 convolution where the channels differ, and G the generation: a 3x3
convolution, a ReLU and a 3x3 convolution, of the teacher's channels throughout. The mask M is drawn
anew for every image, level and step. With u uniform in [0, 1), it is 0

    of positions (detection)       where u > 1 - ratio, (B, 1, H, W)
    of channels (classification)   where u < ratio,     (B, C, 1, 1)

and 1 elsewhere. The loss is a sum over C, H and W, so that a weight belongs to a size of maps. The
published values are

    RetinaNet, RepPoints              places fpn, ratio .65, weight 2e-5
    Faster R-CNN, Mask R-CNN          places P2 to P5, ratio .45, weight 5e-7
    classification (ImageNet)         places C5, ratio .15, weight 7e-5, masked "channels"

The published detectors clip gradients at a norm of 35; RetinaNet and RepPoints begin with the
teacher's neck and head. In the published code for classification the teacher is in training mode,
so that its norms go by the batch and are changed by it; limbeck's teacher never is.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck import adapters
from limbeck.methods.base import Step
from limbeck.methods.maps import MapMethod, squares
from limbeck.methods.pictures import OverImages
from limbeck.methods.places import PlaceModules, Places
from limbeck.ranges import SHARE, refuse_outside
from limbeck.schedules import Weight

Masked = Literal["positions", "channels"]


class MaskedGenerative(MapMethod):
    """Masked Generative Distillation: the teacher's map is generated from a masked student's map.

    It is often called MGD, which is the name of Matching Guided Distillation here,
    :class:`limbeck.methods.MGD`. The generation has 18 * C^2 weights for each level, 1.2 million at
    256 channels, which are trained beside the student and left behind with the method.

    Args:
        places: Places that both models have, such as ``["fpn"]`` or ``["C5"]``; or, where they
            differ, ``{student's place: teacher's place}``.
        weight: The weight of every part: a number or a schedule. The loss is a sum over channels
            and positions, so that it belongs to one size of images.
        ratio: The share of the positions, or of the channels, that is masked.
        masked: Whether ``positions`` are masked, as in detection, or ``channels``, as in
            classification.
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Raises:
        TypeError: ``places`` is one string.
        ValueError: There is no place, ``ratio`` is not from 0 to 1, or ``masked`` is neither of the
            two.
    """

    needs_targets = False
    adapters_name = "align"
    explained = (
        "Under difference: how far what the student generates from the rest of its map is from the "
        "teacher's map, at each position."
    )

    def __init__(
        self,
        places: Places = ("fpn",),
        weight: Weight = 2e-5,
        ratio: float = 0.65,
        masked: Masked = "positions",
        teacher: str | None = None,
    ) -> None:
        super().__init__(places, weight)
        self.teacher = teacher
        refuse_outside({"ratio": SHARE}, {"ratio": ratio}, "MaskedGenerative's ")
        if masked not in get_args(Masked):
            raise ValueError(
                f"MaskedGenerative's masked is {masked!r}; expected {' or '.join(get_args(Masked))}"
            )
        self.ratio = ratio
        self.masked = masked
        self.generation = PlaceModules()

    def adapter(self, student: Tensor, teacher: Tensor) -> nn.Module | None:
        """A 1x1 convolution where channels differ."""
        return adapters.channel_convolution(student, teacher)

    def setup_level(self, level: str, student: Tensor, teacher: Tensor) -> None:
        """Make the adapter, where channels differ, and the generation of one level."""
        super().setup_level(level, student, teacher)
        self.generation[level] = generation(teacher.shape[1])

    def adapted(self, level: str, student: Tensor, step: Step) -> Tensor:
        """What the student generates of the teacher's map: G(M * align(S)), (B, C_T, H, W)."""
        aligned = super().adapted(level, student, step)
        mask = self.mask(aligned, step, [*self.partners].index(level))
        generated: Tensor = self.generation[level](aligned * mask.to(aligned))
        return generated

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss L of one level; ``student`` is what the student generates."""
        adapters.same_map(student, teacher)  # one network may round sizes up, the other down
        squares = F.mse_loss(student.float(), teacher.float(), reduction="sum")
        return squares / len(student)

    def mask(self, aligned: Tensor, step: Step, level: int) -> Tensor:
        """What is kept of a map in one step: a resumed run draws it again.

        Args:
            aligned: The student's map behind its adapter, (B, C, H, W).
            step: The step.
            level: The number of the level, which counts from 0.

        Returns:
            1 where the map is kept and 0 where it is masked, float32: (B, 1, H, W) for positions,
            (B, C, 1, 1) for channels.
        """
        count, channels, *size = aligned.shape
        shape = (count, channels, 1, 1) if self.masked == "channels" else (count, 1, *size)
        uniform = torch.rand(shape, generator=step.generator(level), device=aligned.device)
        return self.kept(uniform).float()

    def kept(self, uniform: Tensor) -> Tensor:
        """Whether numbers u, uniform in [0, 1), keep their positions or channels, boolean."""
        return uniform >= self.ratio if self.masked == "channels" else uniform <= 1 - self.ratio

    def shown(self, student: Tensor, teacher: Tensor) -> Mapping[str, Tensor]:
        """How far the generated map is from the teacher's."""
        return {"difference": squares(student, teacher)}

    def picture(self, step: Step) -> OverImages | None:
        """What positions are masked, and how far the generated maps are from the teacher's."""
        generated = super().picture(step)
        if generated is None or self.masked == "channels":
            return generated
        masks = {
            f"{level}, masked": step.frame.over_images(1 - self.mask(teacher, step, number)[:, 0])
            for number, (level, (_, teacher)) in enumerate(self.levels(step).items())
        }
        caption = (
            "Under masked: the positions of the student's map that are left out in this step. "
        )
        return OverImages(caption + generated.caption, masks | dict(generated.columns))

    def adapter_of(self, student_tap: str) -> nn.Module | None:
        """The adapter of that place, or of its first level, and the generation behind it."""
        found = (super().adapter_of(student_tap), self.generation.at(student_tap))
        return nn.Sequential(*(module for module in found if module is not None))


def generation(channels: int) -> nn.Sequential:
    """The generation G, which keeps the shape (B, C, H, W) of a map."""
    first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
    return nn.Sequential(first, nn.ReLU(inplace=True), second)


__all__ = ["Masked", "MaskedGenerative", "generation"]
