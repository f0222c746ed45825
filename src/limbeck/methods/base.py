"""What a published way to distil is made of, and what it sees of a step."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.data.sampling import METHODS, sample_seed
from limbeck.frame import Frame, padded_size
from limbeck.methods.errors import NoTeacherError
from limbeck.methods.pictures import Picture
from limbeck.schedules import Weight, as_schedule
from limbeck.tap import Tap

Images = Tensor | list[Tensor]
Targets = Tensor | list[dict[str, Tensor]] | None


@dataclass(frozen=True)
class Side:
    """One model during a step.

    Attributes:
        model: The teacher or the student.
        features: The values of the method's taps on the model, by the method's own names. Those of
            the teacher have no gradient.
        outputs: What the model's forward returned; None where it was stopped early.
    """

    model: nn.Module
    features: Mapping[str, Any]
    outputs: Any = None

    def by_level(self, taps: Iterable[str]) -> dict[str, Tensor]:
        """Features by tap, or by tap and number (``fpn.0``) where a feature is a list over levels.

        Args:
            taps: The names of taps whose values are tensors, or lists or mappings of tensors.

        Returns:
            One tensor by name.
        """
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
    """What a method sees of one batch.

    Attributes:
        images: The raw batch that both models got: (B, 3, H, W), or a list of (3, H, W).
        targets: Class indices (B,), or for each image one dict of ``boxes`` and ``labels`` in the
            network's frame. None in the dry pass, and where the images have no labels.
        student: The student's side.
        teacher: The teacher's side; None without a teacher.
        number: How many optimizer steps have been taken so far.
        world_size: The number of processes.
        rank: The number of this process, which counts from 0.
        seed: The seed of the run.
    """

    images: Images
    targets: Targets
    student: Side
    teacher: Side | None
    number: int
    world_size: int
    rank: int = 0
    seed: int = 0

    @property
    def global_batch(self) -> int | Tensor:
        """How many images the batch has over all processes, which may have different numbers.

        With several processes it is a scalar tensor, the outcome of one all-reduce: all processes
        have to ask for it, and none of them waits for the device.
        """
        count = len(self.images)
        if self.world_size == 1:
            return count
        total = torch.tensor(count, device=self.images[0].device)
        torch.distributed.all_reduce(total)
        return total

    def mean_over_processes(self, value: Tensor) -> Tensor:
        """The mean of a number over all processes, by which published code often divides.

        With several processes it is the outcome of one all-reduce: all processes have to ask for
        it, and none of them waits for the device.

        Args:
            value: A scalar of this process. It takes no gradient.

        Returns:
            The mean, a scalar; with one process the value itself.
        """
        if self.world_size == 1:
            return value
        total = value.detach().clone()
        torch.distributed.all_reduce(total)
        return total / self.world_size

    @property
    def taught(self) -> Side:
        """The teacher's side; a ``NoTeacherError`` where there is no teacher."""
        if self.teacher is None:
            raise NoTeacherError
        return self.teacher

    @property
    def frame(self) -> Frame:
        """The frame in which the student sees the images."""
        sizes = tuple((image.shape[-2], image.shape[-1]) for image in self.images)
        return Frame(padded_size(self.student.model, self.images), sizes, None)

    def generator(self, *where: int) -> torch.Generator:
        """A new generator, whose numbers are the same in a run that is resumed before this step.

        The seed of the run, the number of the step, the process and ``where`` decide them alone.
        Batches that are accumulated to one step draw the same numbers.

        Args:
            *where: The numbers that tell what is drawn apart, such as that of a level.

        Returns:
            The generator, on the device of the images.
        """
        seed = sample_seed(self.seed, self.number, self.rank, METHODS, *where)
        return torch.Generator(self.images[0].device).manual_seed(seed)


@dataclass(frozen=True)
class Epochs:
    """A calibration before training, and then after every so many epochs.

    Attributes:
        every: The number of epochs.
    """

    every: int


@dataclass(frozen=True)
class Steps:
    """A calibration before training, and then at multiples of a number of optimizer steps.

    Attributes:
        every: The number of steps.
        slow_from: The step from which ``slow_every`` holds instead. None: never.
        slow_every: The number of steps from then on.
    """

    every: int
    slow_from: int | None = None
    slow_every: int | None = None


@dataclass(frozen=True)
class Calibration:
    """When and on what a method that is calibrated over many batches observes them.

    Attributes:
        when: How often, in epochs or in optimizer steps.
        images: How many images are observed.
        transform: Which of the data's two transforms the images go through.
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
        student_taps: The places of the student that the method reads, by a name of its own choice:
            landmarks, paths or :class:`limbeck.Tap`.
        teacher_taps: The places of the teacher, in the same way.
        weights: The weight of each part of the loss. It is complete after :meth:`setup`.
        normaliser: Whether losses are divided by what this process has of the batch (``local``), or
            by all of it (``global``), as the published form has it. With ``global``, DDP's mean
            over the processes is the mean over the global batch, however unequal their parts are.
        needs_targets: Whether it needs the targets of a batch. Only a method that says no here is
            trained on images without labels; the others are refused there.
        compares_classes: Whether it compares student and teacher class by class, so that a teacher
            of other classes is refused.
        teacher: Which of the pair's ``teachers`` it learns from. None: its ``teacher``.
        calibration: When to call :meth:`observe` over many batches and then :meth:`solve`. None:
            the method has no calibration.

    Example:
        A method of one's own, which matches the mean of one map:

        >>> import torch
        >>> from torchvision.models.resnet import BasicBlock, ResNet
        >>> from limbeck import Distillation
        >>> from limbeck.methods import Method
        >>> class MeanMatching(Method):
        ...     needs_targets = False
        ...
        ...     def __init__(self, place="C4", weight=1.0):
        ...         super().__init__()
        ...         self.student_taps = {"map": place}
        ...         self.teacher_taps = {"map": place}
        ...         self.weights = {"mean": weight}
        ...
        ...     def forward(self, step):
        ...         student = step.student.features["map"].float().mean()
        ...         teacher = step.taught.features["map"].float().mean()
        ...         return {"mean": (student - teacher) ** 2}
        >>> models = [ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4) for _ in range(2)]
        >>> pair = Distillation(*models, [MeanMatching()])
        >>> list(pair(torch.rand(2, 3, 64, 64), torch.tensor([0, 3])))
        ['student/cross_entropy', 'MeanMatching/mean']
    """

    student_taps: Mapping[str, Tap | str]
    teacher_taps: Mapping[str, Tap | str]
    weights: Mapping[str, Weight]
    normaliser: Literal["local", "global"] = "local"
    needs_targets: bool = True
    compares_classes: bool = False
    teacher: str | None = None
    calibration: Calibration | None = None

    def __init__(self) -> None:
        super().__init__()
        self.student_taps = {}
        self.teacher_taps = {}
        self.weights = {}

    def connect(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Choose :attr:`student_taps` and :attr:`teacher_taps` where they depend on the models.

        It is called once, before :meth:`setup`. A ValueError refuses the pair, and says what it
        lacks; a :class:`limbeck.methods.errors.NoTeacherError` where that is the teacher.

        Args:
            student: The student.
            teacher: The teacher; None without one.
        """

    def setup(self, step: Step) -> None:
        """Size the adapters from the features of one tiny dry pass.

        Args:
            step: The dry pass: both models in evaluation mode, no targets, no gradient.
        """

    @abstractmethod
    def forward(self, step: Step) -> dict[str, Tensor]:
        """The losses of one batch.

        Args:
            step: What the method sees of the batch.

        Returns:
            The unweighted losses by part, scalars computed in float32 whatever the autocast.
        """

    def observe(self, step: Step) -> None:
        """Take one calibration batch in.

        Args:
            step: The batch: both models in evaluation mode, no gradient.
        """

    def solve(self) -> None:
        """Finish a calibration: turn what was observed into what :meth:`forward` needs."""

    def picture(self, step: Step) -> Picture | None:
        """What the method shows of a batch; None: it has nothing to show.

        Args:
            step: The batch: both models in evaluation mode, no gradient.

        Returns:
            The picture.
        """
        return None

    @contextmanager
    def named(self, level: str) -> Iterator[None]:
        """Within, an error about what does not fit names the method and the level.

        Args:
            level: The name of the level, or the names of both sides.

        Yields:
            Nothing.

        Raises:
            ValueError: What is done within does not fit.
        """
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{type(self).__name__} at {level}: {error}") from None

    def refuse_unpaired(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> None:
        """Raise a ValueError unless both sides have features of the same names.

        Args:
            student: The student's features by level, see :meth:`Side.by_level`.
            teacher: The teacher's features by level.
        """
        if student.keys() != teacher.keys():
            raise ValueError(
                f"{type(self).__name__}: the student has {len(student)} features "
                f"({', '.join(student)}), the teacher {len(teacher)} ({', '.join(teacher)}). Name "
                "those of equal stride one by one, such as places=[P3, P4], or {student's place: "
                "teacher's place}."
            )

    def weights_at(self, number: int) -> dict[str, float]:
        """The weight of each part after ``number`` optimizer steps."""
        return {part: as_schedule(weight).at(number) for part, weight in self.weights.items()}

    def refuse_unweighted(self, name: str, parts: Iterable[str]) -> None:
        """Refuse a loss that :attr:`weights` does not name, which would have no weight.

        Args:
            name: The name of the method.
            parts: The names of the losses that it gives.

        Raises:
            ValueError: One of them has no weight.
        """
        for part in parts:
            if part not in self.weights:
                raise ValueError(
                    f"{name}/{part}: the method gives this loss no weight; self.weights of "
                    f"{type(self).__name__} has {', '.join(self.weights) or 'none'}. Give it one "
                    "there."
                )

    def adapter_of(self, student_tap: str) -> nn.Module | None:
        """The adapter on the student's feature of that name, for the wiring table."""
        return None

    def levels_of(self, student_tap: str) -> str | None:
        """Which levels of that place are compared, for the wiring table; None: by number."""
        return None


def class_difference(teacher: Any, ours: Sequence[str]) -> str | None:
    """How the classes of the teacher differ from those that are learnt.

    Args:
        teacher: The teacher. It may have its own ``classes`` or ``num_classes``.
        ours: The names of the classes that are learnt.

    Returns:
        The difference as the end of a sentence. None: there is none that the teacher knows of.
    """
    theirs = getattr(teacher, "classes", None)
    if isinstance(theirs, list | tuple) and theirs:
        for number, (there, here) in enumerate(zip_longest(theirs, ours), 1):
            if there != here:
                found, wanted = ("missing" if n is None else repr(n) for n in (there, here))
                return (
                    f"class {number} is {found} there and {wanted} here (there are {len(theirs)} "
                    f"classes there, and {len(ours)} here)."
                )
        return None
    count = getattr(teacher, "num_classes", len(ours))
    return None if count == len(ours) else f"it has {count} of them, and {len(ours)} are expected."
