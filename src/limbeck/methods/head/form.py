"""What HEAD is for one kind of pair: it has a form for each, and the pair chooses."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from limbeck.methods.base import Step
from limbeck.methods.head.ckd import Adapter
from limbeck.methods.head.places import NamedTaps
from limbeck.methods.pictures import OverImages
from limbeck.ranges import Range
from limbeck.schedules import Weight

# Beyond these there is more than memory holds; published are 1000 regions, and a width of 1024.
SIZES = {
    "proposals": Range(1, 100_000),
    "samples": Range(1, 100_000),
    "box_head_channels": Range(1, 8192),
}


@dataclass(frozen=True)
class Settings:
    """The arguments of :class:`limbeck.methods.HEAD`, which says what each of them is.

    Attributes:
        akd: The weight of each part of assist distillation, or None.
        ckd: The weight of cross-architecture distillation, or None.
        assist: The weight of the assist's own losses.
        adapter: The kind of CKD's adapter.
        transfer: Whether the assist begins with the teacher's weights.
        proposals: The number of the student's proposals for each image, at most.
        samples: The number of regions for each image, at most.
        box_head_channels: The width of the assist's hidden layers, or None.
    """

    akd: Weight | None
    ckd: Weight | None
    assist: Weight
    adapter: Adapter
    transfer: bool
    proposals: int
    samples: int
    box_head_channels: int | None

    @property
    def distils(self) -> bool:
        """Whether the teacher is looked at in every step."""
        return self.akd is not None or self.ckd is not None


class Form(ABC):
    """HEAD for one kind of pair; its constructor takes the pair or refuses it.

    Attributes:
        student_taps: The taps on the student, by what each is for.
        teacher_taps: The taps on the teacher, by what each is for.
        modules: What is trained, by the names that checkpoints know. They are there after
            :meth:`setup`.
        weights: The weight of each part of the loss. They are there after :meth:`setup`.
    """

    student_taps: NamedTaps
    teacher_taps: NamedTaps
    modules: dict[str, nn.Module]
    weights: dict[str, Weight]

    @abstractmethod
    def setup(self, step: Step) -> None:
        """Make the assist and the adapters from a dry pass."""

    @abstractmethod
    def losses(self, step: Step) -> dict[str, Tensor]:
        """The unweighted losses of one batch by part."""

    @abstractmethod
    def picture(self, step: Step) -> OverImages:
        """The regions that are looked at in one batch, over its images."""

    @abstractmethod
    def adapter_of(self, student_tap: str) -> nn.Module | None:
        """The adapter on the student's feature of that name."""
