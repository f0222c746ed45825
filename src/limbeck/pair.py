"""The pair: a student and the teachers it learns from, read while they run.

It is what a distillation stands on, and all that has to be known in order to look at one: the
models, the methods by name, their taps, one step of both models, what is trained and what is not.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from limbeck.data.sampling import rank_and_world_size
from limbeck.dry_pass import evaluation, explained_dry_pass, tiny_batch, told_of
from limbeck.frame import (
    Extent,
    explained_size,
    foreground_classes,
    network_frame,
    same_frame,
    takes_list,
)
from limbeck.guard import has_boxes, is_readable, refuse_bad_targets, refuse_malformed
from limbeck.landmarks import landmarks, resolve, unwrap
from limbeck.losses import Losses
from limbeck.methods.base import Images, Method, Side, Step, Targets
from limbeck.names import by_name, refuse_name
from limbeck.schedules import Schedule
from limbeck.tap import Tap
from limbeck.taps import Taps
from limbeck.teachers import (
    Seen,
    Teacher,
    connect,
    frozen,
    named_teachers,
    normalises,
    refuse_scripted,
    refuse_shared,
    refuse_taken,
    side_of,
    transferred,
)


class Pair(nn.Module, ABC):
    """A student, its frozen teachers, and the methods that read them.

    A subclass says in :meth:`forward` which losses a batch has. This class connects the methods to
    the models, sizes their adapters in a dry pass, and runs both models with the taps installed.

    Args:
        student: Any module. In training mode a detector takes ``(images, targets)``, a classifier
            takes ``images``.
        teacher: Any module, or None where no method needs one. It is frozen here: it takes no
            gradient and stays in evaluation mode. Methods that name no teacher learn from it.
        teachers: Further teachers by the names that methods call them by (their ``teacher``).
            Default (None): there are no others.
        methods: The methods by a name of the user's choice. The methods of a sequence go by the
            names of their classes, numbered where a name repeats.
        transfer: Submodules of the student whose weights are copied once, here, from the teacher's:
            ``{student's submodule: teacher's}``, of a teacher with a name as ``name:submodule``.
            Names and shapes have to be equal.
        example: The images of the dry pass, (B, 3, H, W) or a list of (3, H, W), or the (height,
            width) of one black image. Default (None): one black image of 128 px, or of the size
            that the student or the teacher is made for.

    Attributes:
        number: How many optimizer steps have been taken, by which schedules go.
        seed: The seed of the run, by which methods draw at random. Training sets it to the data's;
            in a loop of your own it is 0 unless you set it.
        raw: Whether a model normalises the images itself, so that they have to be in [0, 1].
        student_weight: The weight of the student's own losses.

    Raises:
        TypeError: The methods are one method, and no list or mapping; or a model is scripted.
        ValueError: The student is wrapped or compiled, or shares parameters with a teacher, or
            student, teacher and methods do not fit; names and shapes of both are said.
        limbeck.TapError: A place does not exist.
    """

    number: int
    seed: int
    raw: bool
    student_weight: Schedule

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        methods: Mapping[str, Method] | Sequence[Method] = (),
        *,
        teachers: Mapping[str, nn.Module] | None = None,
        transfer: Mapping[str, str] | None = None,
        example: Images | Extent | None = None,
    ) -> None:
        super().__init__()
        if unwrap(student) is not student:
            raise ValueError(
                f"the student is wrapped ({type(student).__name__}). Pass the plain module, "
                "wrap the whole Distillation, and compile its networks with "
                "limbeck.training.compile_trunks(pair)."
            )
        given = ({} if teacher is None else {None: teacher}) | dict(teachers or {})
        refuse_shared(student, given)
        refuse_scripted({"student": student} | {side_of(key): each for key, each in given.items()})
        self.student = student
        self.teacher = None if teacher is None else frozen(teacher)
        self.teachers = nn.ModuleDict()
        for name, further in (teachers or {}).items():
            refuse_name("model.teachers", name)
            refuse_taken("model.teachers", name)
            self.teachers[name] = frozen(further)
        # Read by DDP: frozen teachers are neither broadcast nor reduced.
        self._ddp_params_and_buffers_to_ignore = self.teacher_names()
        named = by_name(methods)
        for name in named:
            refuse_taken("model.methods", name)
        self.methods = nn.ModuleDict(named)
        self.number = self.seed = 0
        # Whether one of the models normalises raw images itself.
        self.raw = any(normalises(model) for model in self.models)
        transferred(student, self.every_teacher(), transfer or {})
        for name, method in self.named_methods():
            with told_of(f"method {name!r}"):
                connect(method, self.student, self.every_teacher())
        self._student_taps = self._tap(student, "student", [*self.methods])
        self._taught: dict[str | None, Teacher] = {}
        for key, model in self.every_teacher().items():
            # The teacher as it was given, as its wrappers may be refused.
            taps = self._tap(given[key], "teacher", self.pupils(key))
            self._taught[key] = Teacher(side_of(key), model, taps)
        self._setup(example)

    # -- who learns from whom -------------------------------------------------------------------

    def named_methods(self) -> Iterator[tuple[str, Method]]:
        """Every method with its name, in the order in which they were given."""
        for name in self.methods:
            yield name, self.method(name)

    def method(self, name: str) -> Method:
        """The method of that name."""
        method = self.methods[name]
        assert isinstance(method, Method)
        return method

    def every_teacher(self) -> dict[str | None, nn.Module]:
        """All teachers by the names that methods call them by; ``teacher`` itself by None."""
        return ({} if self.teacher is None else {None: self.teacher}) | dict(self.teachers.items())

    def teacher_of(self, name: str) -> nn.Module | None:
        """The teacher that the method of that name learns from; None: there is none."""
        return self.every_teacher().get(self.method(name).teacher)

    def pupils(self, teacher: str | None) -> list[str]:
        """The names of the methods that learn from the teacher of that name."""
        return [name for name, method in self.named_methods() if method.teacher == teacher]

    @property
    def models(self) -> list[nn.Module]:
        """The student and all teachers."""
        return [self.student, *self.every_teacher().values()]

    # -- taps and the dry pass ------------------------------------------------------------------

    def _tap(self, model: nn.Module, side: str, methods: Sequence[str]) -> Taps:
        taps: dict[str, Tap | str] = {}
        for name in methods:
            with told_of(f"method {name!r} on the {side}"):
                for tap_name, tap in getattr(self.method(name), f"{side}_taps").items():
                    taps[f"{name} {tap_name}"] = resolve(model, tap)
        if "frame" in landmarks(model) and (taps or side == "student"):
            taps["frame"] = "frame"
        return Taps(model, taps, stop_early=side == "teacher")

    @torch.no_grad()
    def _setup(self, example: Images | Extent | None) -> None:
        """Run all models once on a tiny batch, from which the methods size their adapters."""
        device = next((p.device for p in self.student.parameters()), torch.device("cpu"))
        images = example  # of the user's own, or none yet
        if images is None or isinstance(images, tuple):
            images = tiny_batch(self.models, images, device)
        student = {}
        sides = {side_of(key): model for key, model in self.every_teacher().items()}
        with (
            explained_dry_pass(images, {"student": self.student} | sides),
            evaluation(*self.models),
            network_frame(*self.models),
        ):
            taught = {
                key: (None, each.learn(images, self.student)) for key, each in self._taught.items()
            }
            if self._student_taps.taps:
                student = self._student_taps.learn(lambda: self.student(images))
        for name, method in self.named_methods():
            with told_of(f"method {name!r}"), named_teachers(self.every_teacher()):
                method.setup(self._step(name, images, None, (None, student), taught))
                method.weights_at(0)  # refuses negative ones
            method.to(device)

    def close(self) -> None:
        """Remove every hook from the student and its teachers."""
        for taps in (self._student_taps, *(each.taps for each in self._taught.values())):
            taps.close()

    # -- one step -------------------------------------------------------------------------------

    @abstractmethod
    def forward(self, images: Images, targets: Targets) -> Losses:
        """The losses of one batch by name."""

    @abstractmethod
    def own_losses(
        self, outputs: Any, targets: Targets, *, wait: bool = False
    ) -> Mapping[str, Tensor]:
        """The student's own losses.

        Args:
            outputs: What the student returned.
            targets: The targets of the batch.
            wait: Whether a device may be waited for, to read the targets.

        Returns:
            The losses by name, scalars.
        """

    def run(self, images: Images, targets: Targets) -> tuple[Any, dict[str, Step]]:
        """Run all models on one batch, and give every method what it sees of them.

        Each teacher runs first, without gradient and only as far as its last tap, and not at all
        where no method taps it. Then the student runs, in whichever mode it is. No loss is
        computed: call a method with its step for that, or the pair for all of them.

        Args:
            images: Raw RGB in [0, 1], (B, 3, H, W), or for detectors a list of (3, H, W) in the
                network's frame: nothing resizes them any more.
            targets: Class indices (B,), or for detectors a dict of ``boxes`` (xyxy, pixels) and
                ``labels`` (from 1) for each image. A detector in training mode is called with them.
                None: the images have no labels. A detector in training mode then ends behind its
                last tap, as the teacher does, and returns None.

        Returns:
            What the student returned, and the step of each method by the method's name.

        Raises:
            limbeck.TapError: A tap caught nothing, or not what it caught in the dry pass.
            ValueError: The student and the teacher see the images in different frames, or the
                batch is malformed (see :mod:`limbeck.guard`), which :func:`limbeck.check` looks
                at more closely. Or the student is trained without labels, and a method needs them.

        Example:
            Read the features that a method compares:

            >>> import torch
            >>> from torchvision.models.resnet import BasicBlock, ResNet
            >>> from limbeck import Distillation, methods
            >>> models = [ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4) for _ in range(2)]
            >>> pair = Distillation(*models, {"hint": methods.FitNet(["C4"])})
            >>> logits, steps = pair.run(torch.rand(2, 3, 64, 64), torch.tensor([0, 3]))
            >>> steps["hint"].student.features["C4"].shape
            torch.Size([2, 256, 4, 4])
        """
        self.refuse_malformed(images, targets)
        with network_frame(*self.models):
            taught = {key: each.teach(images, self.student) for key, each in self._taught.items()}
            with explained_size("student", self.student, images):
                learnt = self._learn(images, targets)
        frame = learnt[1].get("frame")
        if frame is not None:
            for _, seen in taught.values():
                same_frame(frame, seen.get("frame"))
            if targets is not None and frame.targets is not None:
                targets = frame.targets
        steps = {name: self._step(name, images, targets, learnt, taught) for name in self.methods}
        return learnt[0], steps

    def _learn(self, images: Images, targets: Targets) -> Seen:
        """Run the student, as far as its last tap where it detects and has nothing to detect."""
        if self.student.training and targets is None and takes_list(self.student):
            # In training mode a detector asks for boxes; its losses of none are never computed.
            none = {"boxes": images[0].new_zeros(0, 4), "labels": images[0].new_zeros(0).long()}
            unlabelled = [dict(none) for _ in images]
            _, seen = self._student_taps.read(
                lambda: self.student(images, unlabelled), stop_early=True
            )
            return None, seen
        labelled = self.student.training and isinstance(targets, list)
        inputs = (images, targets) if labelled else (images,)
        return self._student_taps.read(lambda: self.student(*inputs))

    def refuse_malformed(self, images: Images, targets: Targets) -> None:
        """Refuse a batch that is malformed, as far as that needs no wait for a device.

        Args:
            images: The images of the batch.
            targets: The targets of the batch.

        Raises:
            ValueError: Types, shapes or counts are others than documented, or, on the CPU, labels
                or boxes are. Or there are no labels in training, and something needs them.
        """
        if targets is None and self.student.training:
            self.refuse_unlabelled("targets is None")
        detects = self.student.training and takes_list(self.student) and targets is not None
        refuse_malformed(images, targets, detects=detects, raw=self.raw)
        if isinstance(targets, list) and has_boxes(targets) and is_readable(targets[0]["boxes"]):
            classes = foreground_classes(self.student)
            refuse_bad_targets(targets, classes, training=self.student.training)

    def refuse_unlabelled(self, found: str) -> None:
        """Refuse to train without labels where a method needs them, or where there is no method.

        Args:
            found: Where the images without labels come from, as the beginning of a sentence.

        Raises:
            ValueError: Something needs labels. The methods that do are named.
        """
        needing = [
            f"{name} ({type(method).__name__})"
            for name, method in self.named_methods()
            if method.needs_targets
        ]
        if needing:
            raise ValueError(
                f"{found}, so there are images without labels, and these methods need labels: "
                f"{', '.join(needing)}. Expected methods that need none, such as FitNet, or KD on "
                "classifiers. Leave these methods out (model.methods), or the unlabelled images."
            )
        if not len(self.methods):
            raise ValueError(
                f"{found}, so there are images without labels, and there is no method: the student "
                "learns nothing from them. Give a method that needs no labels (model.methods), or "
                "labelled images."
            )

    def _step(
        self,
        name: str,
        images: Images,
        targets: Targets,
        learnt: Seen,
        taught: Mapping[str | None, Seen],
    ) -> Step:
        method, teacher = self.method(name), self.teacher_of(name)

        def side(model: nn.Module, taps: Any, seen: Seen) -> Side:
            return Side(model, {tap: seen[1][f"{name} {tap}"] for tap in taps}, seen[0])

        rank, world_size = rank_and_world_size()
        return Step(
            images=images,
            targets=targets,
            student=side(self.student, method.student_taps, learnt),
            teacher=None
            if teacher is None
            else side(teacher, method.teacher_taps, taught[method.teacher]),
            number=self.number,
            world_size=world_size,
            rank=rank,
            seed=self.seed,
        )

    def advance(self) -> None:
        """Count one optimizer step, so that schedules move on."""
        self.number += 1

    # -- what is trained and what is frozen -----------------------------------------------------

    def named_trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters of the student and of the methods that take a gradient, by name."""
        for name, parameter in self.named_parameters():
            if parameter.requires_grad and not name.startswith(("teacher.", "teachers.")):
                yield name, parameter

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters that an optimizer is to hold: the student's and the methods'."""
        return [parameter for _, parameter in self.named_trainable_parameters()]

    def teacher_names(self) -> list[str]:
        """Names of teachers' parameters and buffers, for checkpoints and DDP to leave alone."""
        found = []
        for key, model in self.every_teacher().items():
            path = "teacher" if key is None else f"teachers.{key}"
            names = model.state_dict(keep_vars=True) | dict(model.named_buffers())
            found += [f"{path}.{name}" for name in names]
        return found

    def train(self, mode: bool = True) -> Self:
        """Set the student and the methods to training or evaluation mode, teachers never."""
        super().train(mode)
        for model in self.every_teacher().values():
            model.eval()
        return self
