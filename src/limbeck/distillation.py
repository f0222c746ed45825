"""Distillation: student, teacher and methods in one module that returns named losses."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.dry_pass import evaluation
from limbeck.frame import Extent
from limbeck.guard import refuse_bad_indices
from limbeck.losses import Losses, logits_of, named_scalars, refuse_half, student_losses
from limbeck.methods.base import Images, Method, Targets
from limbeck.methods.pictures import Picture
from limbeck.pair import Pair
from limbeck.ranges import NOT_NEGATIVE, refuse_outside
from limbeck.schedules import Weight, as_schedule
from limbeck.terminal import say
from limbeck.transfer import checksum
from limbeck.wiring import Wiring, check

StudentLoss = Callable[[Any, Any], Mapping[str, Tensor]]


class Distillation(Pair):
    """A student, the teacher or the teachers it learns from, and the methods by which it does.

    One call with a batch runs each teacher as far as its last tap, then the student, and returns
    every loss by name. A teacher is frozen: it takes no gradient, stays in evaluation mode, and
    is absent from the optimizer and from the state dict (which holds a checksum of it). Wrap the
    whole module in DDP, never the student.

    Args:
        student: Any module. In training mode a detector takes ``(images, targets)`` and returns
            a mapping of losses; a classifier takes ``images`` and returns logits (B, K).
        teacher: Any module, or None for plain training and for methods without a teacher. Methods
            that name no teacher learn from it. What is no detector takes a detector's images as a
            :class:`limbeck.models.FeatureTeacher`.
        teachers: Further teachers by names of the user's choice. The methods that learn from one of
            them name it: ``FitNet(["C4"], teacher="name")``. Default (None): there are no others.
        methods: The methods by a name of the user's choice. The methods of a sequence go by the
            names of their classes, numbered where a name repeats.
        transfer: Submodules of the student whose weights are copied once, here, from the teacher's:
            ``{student's submodule: teacher's}``, of a teacher with a name as ``name:submodule``.
            Names and shapes have to be equal.
        student_weight: The weight of the student's own losses: a number or a schedule.
        student_loss: ``(outputs, targets) -> {name: loss}``, for students that return neither
            losses nor logits. It is not called for images without labels.
        example: The images of the dry pass that sizes the adapters, for models that refuse 128 px:
            (B, 3, H, W), or a list of (3, H, W), or the (height, width) of one black image.
            Default (None): one black image of 128 px, or of the size that the student or the
            teacher is made for.

    Raises:
        TypeError: The methods are one method, and no list or mapping.
        ValueError: The student is wrapped or compiled, or shares parameters with a teacher, or
            student, teacher and methods do not fit; names and shapes of both are said.
        limbeck.TapError: A place does not exist.

    Example:
        A training loop of one's own:

        >>> import torch
        >>> from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
        >>> from limbeck import Distillation, methods
        >>> student = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)
        >>> teacher = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=4)
        >>> pair = Distillation(student, teacher, [methods.KD(), methods.FitNet(["C4"])])
        >>> optimizer = torch.optim.SGD(pair.trainable_parameters(), lr=0.01)
        >>> loader = [(torch.rand(2, 3, 64, 64), torch.tensor([0, 3]))]
        >>> wiring = pair.check(*loader[0], optimizer)
        ┏━...┓
        ┃ method...
        └...┘
        >>> for images, targets in loader:
        ...     losses = pair(images, targets)
        ...     losses.total.backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        ...     pair.advance()
        >>> list(losses)
        ['student/cross_entropy', 'KD/logits', 'FitNet/C4']
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        methods: Mapping[str, Method] | Sequence[Method] = (),
        *,
        teachers: Mapping[str, nn.Module] | None = None,
        transfer: Mapping[str, str] | None = None,
        student_weight: Weight = 1.0,
        student_loss: StudentLoss = student_losses,
        example: Images | Extent | None = None,
    ) -> None:
        super().__init__(
            student, teacher, methods, teachers=teachers, transfer=transfer, example=example
        )
        refuse_outside({"student_weight": NOT_NEGATIVE}, {"student_weight": student_weight})
        self.student_weight = as_schedule(student_weight)
        self.student_loss = student_loss
        self._checksums: dict[str | None, str] | None = None
        self.register_state_dict_post_hook(_leave_teachers_out)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_forgive_teachers)  # type: ignore[no-untyped-call]

    # -- losses ---------------------------------------------------------------------------------

    def forward(self, images: Images, targets: Targets) -> Losses:
        """Run both models on one batch and compute every loss.

        Args:
            images: Raw RGB in [0, 1], (B, 3, H, W), or for detectors a list of (3, H, W) in the
                network's frame: nothing resizes them any more.
            targets: Class indices (B,), or for detectors a dict of ``boxes`` (xyxy, pixels) and
                ``labels`` (from 1) for each image. None: the images have no labels, and the losses
                are those of the methods alone. Parameters that no method reaches then get no
                gradient, for which DDP needs ``find_unused_parameters=True``.

        Returns:
            The student's own losses as ``student/<name>``, and the methods' as
            ``<method>/<part>``.

        Raises:
            TypeError: A method computed a loss in half precision, the student returned neither
                losses nor logits, or a loss has no name or is no scalar.
            ValueError: The batch is malformed, see :meth:`run`; or there are no labels, and a
                method needs them; or a method gives one of its losses no weight.
        """
        outputs, steps = self.run(images, targets)
        weight = self.student_weight.at(self.number)
        students = self.own_losses(outputs, targets)
        raw = {f"student/{part}": loss.float() for part, loss in students.items()}
        weights = dict.fromkeys(raw, weight)
        for name, method in self.named_methods():
            parts = named_scalars(method(steps[name]), f"method {name!r}")
            method.refuse_unweighted(name, parts)
            own = {f"{name}/{part}": loss for part, loss in parts.items()}
            refuse_half(own)
            raw |= own
            weights |= {f"{name}/{p}": w for p, w in method.weights_at(self.number).items()}
        return Losses(raw, weights)

    def own_losses(
        self, outputs: Any, targets: Targets, *, wait: bool = False
    ) -> Mapping[str, Tensor]:
        """The student's own losses, of what it returned.

        Args:
            outputs: What the student returned.
            targets: The targets of the batch.
            wait: Whether a device may be waited for, to read class indices.

        Returns:
            The losses by name, scalars; none where the images have no labels.

        Raises:
            TypeError: The student returned neither losses nor logits, or a loss is no scalar.
            ValueError: The targets are no class indices of the student's logits.
        """
        if targets is None:
            return {}
        logits = logits_of(outputs)
        usual = self.student_loss is student_losses
        if wait and usual and logits is not None and isinstance(targets, Tensor):
            refuse_bad_indices(targets, logits.shape, wait=True)
        return named_scalars(self.student_loss(outputs, targets), "student_loss")

    def check(
        self,
        images: Images,
        targets: Targets,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> Wiring:
        """Refuse a distillation that is not alive, and print who is connected to whom.

        One batch is run, and nothing is changed by it. :func:`limbeck.wiring.check` does the same
        without printing, and says what is refused.

        Args:
            images: The images of one batch, as :meth:`forward` takes them.
            targets: The targets of that batch.
            optimizer: The optimizer that is to train the pair. Default (None): it is not known
                yet, and nothing is said about what it holds.

        Returns:
            The table that was printed.
        """
        wiring = check(self, images, targets, optimizer)
        say(wiring)
        return wiring

    # -- calibration and pictures ---------------------------------------------------------------

    @torch.no_grad()
    def observe(self, images: Images, targets: Targets, name: str | None = None) -> None:
        """Show one calibration batch to the methods that have a calibration.

        Args:
            images: The images of one batch, as :meth:`forward` takes them.
            targets: The targets of that batch.
            name: The only method that is to see it. Default (None): all that have a calibration.
        """
        with evaluation(*self.models):
            _, steps = self.run(images, targets)
            for calibrated in self._calibrated(name):
                self.method(calibrated).observe(steps[calibrated])

    def solve(self, name: str | None = None) -> None:
        """Finish the calibration of one method, or of all that have one."""
        for calibrated in self._calibrated(name):
            self.method(calibrated).solve()

    def _calibrated(self, name: str | None) -> list[str]:
        if name is not None:
            return [name]
        return [name for name, method in self.named_methods() if method.calibration is not None]

    @torch.no_grad()
    def picture(self, images: Images, targets: Targets, name: str) -> Picture | None:
        """What a method shows of a batch.

        Args:
            images: The images of one batch, as :meth:`forward` takes them.
            targets: The targets of that batch.
            name: The name of the method.

        Returns:
            The picture; None: the method has nothing to show.
        """
        with evaluation(*self.models):
            _, steps = self.run(images, targets)
            return self.method(name).picture(steps[name])

    # -- what is saved --------------------------------------------------------------------------

    def get_extra_state(self) -> dict[str, Any]:
        """The step count and the teachers' checksums."""
        if self._checksums is None:
            self._checksums = {key: checksum(m) for key, m in self.every_teacher().items()}
        named = {key: digits for key, digits in self._checksums.items() if key is not None}
        alone = {"number": self.number, "teacher": self._checksums.get(None)}
        return alone | ({"teachers": named} if named else {})

    def set_extra_state(self, state: Any) -> None:
        """Take the step count, and refuse the state of a distillation by other teachers."""
        own = self.get_extra_state()
        there, here = ({None: each["teacher"]} | each.get("teachers", {}) for each in (state, own))
        for key in [*here, *(key for key in there if key not in here)]:
            if there.get(key) != here.get(key):
                which = "another teacher" if key is None else f"another teacher {key!r}"
                raise ValueError(
                    f"this checkpoint was trained with {which}: its weights have the checksum "
                    f"{there.get(key)}, the present teacher's have {here.get(key)}. Load the same "
                    "weights."
                )
        self.number = state["number"]


def _leave_teachers_out(module: nn.Module, state: Any, prefix: str, _: Any) -> None:
    assert isinstance(module, Distillation)
    for name in module.teacher_names():
        state.pop(prefix + name, None)


def _forgive_teachers(module: nn.Module, incompatible: Any) -> None:
    """Take the teachers' names off the missing keys: they are in no checkpoint."""
    assert isinstance(module, Distillation)
    names = tuple(module.teacher_names())
    missing = incompatible.missing_keys
    missing[:] = [key for key in missing if not key.endswith(names)]
