"""What a published method to distil is made of."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.schedules import Weight, as_schedule
from limbeck.tap import Tap

Images = Tensor | list[Tensor]
Targets = Tensor | list[dict[str, Tensor]] | None


@dataclass(frozen=True)
class Side:
    """One model during a step.

    Attributes:
        model: the teacher or the student.
        features: the values of the method's taps on it, by the method's own names; the
            teacher's are detached.
        outputs: what its forward returned; None where it was stopped early.
    """

    model: nn.Module
    features: Mapping[str, Any]
    outputs: Any = None

    def by_level(self, taps: Iterable[str]) -> dict[str, Tensor]:
        """Features by tap, and by tap and number (``fpn.0``) where one is a list over levels."""
        levels: dict[str, Tensor] = {}
        for tap in taps:
            feature = self.features[tap]
            if isinstance(feature, Tensor):
                levels[tap] = feature
            else:
                values = feature.values() if isinstance(feature, Mapping) else feature
                levels |= {f"{tap}.{i}": level for i, level in enumerate(values)}
        return levels


@dataclass(frozen=True)
class Step:
    """What a method sees.

    Attributes:
        images: the raw batch that both models got: (B, 3, H, W), or a list of (3, H, W).
        targets: class indices (B,), or one dict of ``boxes`` and ``labels`` an image, in the
            network's frame; None in the dry pass.
        student: the student's side.
        teacher: the teacher's side; None without a teacher.
        number: optimizer steps taken so far.
        world_size: number of processes.
    """

    images: Images
    targets: Targets
    student: Side
    teacher: Side | None
    number: int
    world_size: int

    @property
    def global_batch(self) -> int | Tensor:
        """Images in the batch over all processes, which may have different numbers of them.

        With several processes a scalar tensor, for which they are asked: one all-reduce, that all
        of them have to take part in, and no wait for the device.
        """
        count = len(self.images)
        if self.world_size == 1:
            return count
        total = torch.tensor(count, device=self.images[0].device)
        torch.distributed.all_reduce(total)
        return total

    @property
    def taught(self) -> Side:
        """The teacher's side, for methods that cannot do without; raises when there is none."""
        if self.teacher is None:
            raise ValueError("this method needs a teacher, and the Distillation has none")
        return self.teacher


@dataclass(frozen=True)
class Epochs:
    """Before training, then after ``every`` epochs."""

    every: int


@dataclass(frozen=True)
class Steps:
    """Before training, then at multiples of ``every``, from ``slow_from`` on of ``slow_every``."""

    every: int
    slow_from: int | None = None
    slow_every: int | None = None


@dataclass(frozen=True)
class Calibration:
    """When and on what a method that is calibrated over many batches observes them.

    Attributes:
        when: in epochs, or in optimizer steps.
        images: how many images are observed.
        transform: the data's transform for them.
    """

    when: Epochs | Steps
    images: int
    transform: Literal["training", "evaluation"]


class Method(nn.Module, ABC):
    """A published way to distil, with its adapters and whatever networks of its own it trains.

    A subclass sets :attr:`student_taps` and :attr:`teacher_taps` in its constructor, or in
    :meth:`connect`, sizes its adapters in :meth:`setup`, and computes its losses in
    :meth:`forward`. What it registers as submodules is trained beside the student and saved in
    checkpoints, and leaves with the method.

    Under ``bf16-mixed`` and ``16-mixed`` features come in half precision and :meth:`forward` runs
    under autocast. Adapters and networks of the method's own take both as they are: float32 would
    cost time there and bring the loss no closer, since the features are rounded already. The
    arithmetic after them begins with ``.float()``; a matrix product in it also needs
    ``torch.autocast(..., enabled=False)``. :class:`limbeck.Distillation` refuses a loss in half
    precision.

    Attributes:
        student_taps: wanted places of the student by a name of the method's choice: landmarks,
            paths or :class:`limbeck.Tap`.
        teacher_taps: the same of the teacher.
        weights: the weight of each part of the loss. Complete after :meth:`setup`.
        normaliser: whether losses are divided by what this process has of the batch, or by all of
            it, as the published form has it. With ``global``, DDP's mean over the processes is the
            mean over the global batch, however unequal their parts are.
        calibration: None, or when to call :meth:`observe` over many batches and then
            :meth:`solve`.
    """

    normaliser: Literal["local", "global"] = "local"
    calibration: Calibration | None = None

    def __init__(self) -> None:
        super().__init__()
        self.student_taps: Mapping[str, Tap | str] = {}
        self.teacher_taps: Mapping[str, Tap | str] = {}
        self.weights: Mapping[str, Weight] = {}

    def connect(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Choose :attr:`student_taps` and :attr:`teacher_taps`, where they depend on the models.

        Called once, before :meth:`setup`; a ValueError says what the pair lacks.
        """

    def setup(self, step: Step) -> None:
        """Size adapters from the features of one tiny dry pass (no targets, evaluation mode)."""

    @abstractmethod
    def forward(self, step: Step) -> dict[str, Tensor]:
        """The unweighted losses by part, scalars computed in float32 whatever the autocast."""

    def observe(self, step: Step) -> None:
        """Take one calibration batch in (both models in evaluation mode, no gradient)."""

    def solve(self) -> None:
        """Finish a calibration: turn what was observed into what :meth:`forward` needs."""

    def overlays(self, step: Step) -> dict[str, list[Tensor]]:
        """What can be drawn over a batch's images, by name: (h, w) from 0 to 1 for each image."""
        return {}

    def weights_at(self, number: int) -> dict[str, float]:
        """The weight of each part after ``number`` optimizer steps."""
        return {part: as_schedule(weight).at(number) for part, weight in self.weights.items()}

    def adapter_of(self, student_tap: str) -> nn.Module | None:
        """The adapter on the student's feature of that name, for the wiring table."""
        return None
