"""Distillation: student, teacher and methods in one module that returns named losses."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import rich
import torch
from torch import Tensor, nn

from limbeck.dry_pass import evaluation, explained_dry_pass, tiny_batch
from limbeck.frame import network_frame, same_frame
from limbeck.landmarks import landmarks, unwrap
from limbeck.losses import Losses, refuse_half, student_losses
from limbeck.methods.base import Images, Method, Side, Step, Targets
from limbeck.schedules import Weight, as_schedule
from limbeck.taps import Taps
from limbeck.transfer import checksum, transfer_weights
from limbeck.wiring import Wiring, check

StudentLoss = Callable[[Any, Any], Mapping[str, Tensor]]


class Distillation(nn.Module):
    """A student, the teacher it learns from, and the methods by which it does.

    One call with a batch runs the teacher as far as its last tap, then the student, and returns
    every loss by name::

        pair = Distillation(student, teacher, [methods.FitNet(["fpn"])])
        optimizer = torch.optim.SGD(pair.trainable_parameters(), lr=0.01)
        pair.check(images, targets, optimizer)
        for images, targets in loader:
            losses = pair(images, targets)
            losses.total.backward(); optimizer.step(); optimizer.zero_grad()
            pair.advance()

    The teacher is frozen: no gradient, evaluation mode always, absent from the optimizer and from
    the state dict (a checksum of it goes in). Wrap the whole module in DDP, never the student.

    Args:
        student: any module. In training mode a detector takes ``(images, targets)`` and returns
            a mapping of losses; a classifier takes ``images`` and returns logits.
        teacher: any module, or None (plain training, or methods without a teacher).
        methods: by a name of the user's choice; a sequence gets the class names, numbered when
            they repeat.
        transfer: ``{student's submodule: teacher's}``, copied once, here; strict.
        student_weight: weight of the student's own losses.
        student_loss: ``(outputs, targets) -> {name: loss}`` for students that give something else.
        example: images for the dry pass that sizes the adapters, for models that refuse 128 px:
            (B, 3, H, W), or a list of (3, H, W).

    Raises:
        ValueError: a pair that does not fit, with both names and shapes.
        limbeck.TapError: a place that does not exist.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        methods: Mapping[str, Method] | Sequence[Method] = (),
        *,
        transfer: Mapping[str, str] | None = None,
        student_weight: Weight = 1.0,
        student_loss: StudentLoss = student_losses,
        example: Images | None = None,
    ) -> None:
        super().__init__()
        if unwrap(student) is not student:
            raise ValueError(
                f"the student is wrapped ({type(student).__name__}). Pass the plain module, and "
                "wrap or compile the whole Distillation."
            )
        self.student = student
        self.teacher = None if teacher is None else unwrap(teacher).requires_grad_(False).eval()
        # Read by DDP: the frozen teacher is neither broadcast nor reduced.
        self._ddp_params_and_buffers_to_ignore = self.teacher_names()
        self.methods = nn.ModuleDict(name_methods(methods))
        self.student_weight = as_schedule(student_weight)
        self.student_loss = student_loss
        self.number = 0
        self._checksum: str | None = None
        if transfer:
            transfer_weights(student, self._needed_teacher("transfer"), transfer)
        for _, method in self._methods():
            method.connect(self.student, self.teacher)
        self._student_taps = self._tap(student, "student_taps")
        self._teacher_taps = None if teacher is None else self._tap(teacher, "teacher_taps")
        self._setup(example)
        self.register_state_dict_post_hook(_leave_teacher_out)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_forgive_teacher)  # type: ignore[no-untyped-call]

    def _methods(self) -> Iterator[tuple[str, Method]]:
        for name in self.methods:
            yield name, self._method(name)

    def _method(self, name: str) -> Method:
        method = self.methods[name]
        assert isinstance(method, Method)
        return method

    def _needed_teacher(self, wanted_by: str) -> nn.Module:
        if self.teacher is None:
            raise ValueError(f"{wanted_by} needs a teacher, and the Distillation has none")
        return self.teacher

    def _tap(self, model: nn.Module, side: str) -> Taps:
        taps = {
            f"{name} {tap_name}": tap
            for name, method in self._methods()
            for tap_name, tap in getattr(method, side).items()
        }
        if "frame" in landmarks(model) and (taps or side == "student_taps"):
            taps["frame"] = "frame"
        return Taps(model, taps, stop_early=side == "teacher_taps")

    # -- the dry pass ---------------------------------------------------------------------------

    @torch.no_grad()
    def _setup(self, example: Images | None) -> None:
        device = next((p.device for p in self.student.parameters()), torch.device("cpu"))
        images = tiny_batch(self.student, device) if example is None else example
        student, teacher = {}, {}
        with (
            explained_dry_pass(images),
            evaluation(self.student, self.teacher),
            network_frame(self.student, self.teacher),
        ):
            if self._teacher_taps is not None and self._teacher_taps.taps:
                teacher = self._teacher_taps.learn(lambda: self._needed_teacher("a tap")(images))
            if self._student_taps.taps:
                student = self._student_taps.learn(lambda: self.student(images))
        for name, method in self._methods():
            try:
                method.setup(self._step(name, images, None, (None, student), (None, teacher)))
            except ValueError as error:
                raise ValueError(f"method {name!r}: {error}") from error
            method.to(device)

    # -- one step -------------------------------------------------------------------------------

    def forward(self, images: Images, targets: Targets) -> Losses:
        """The losses of one batch.

        Args:
            images: raw RGB in [0, 1], (B, 3, H, W), or a list of (3, H, W) for detectors, in the
                network's frame: nothing resizes them any more.
            targets: class indices (B,), or a dict of ``boxes`` (xyxy, pixels) and ``labels``
                (from 1) an image.
        """
        outputs, steps = self._run(images, targets)
        weight = self.student_weight.at(self.number)
        own = self.student_loss(outputs, targets)
        raw = {f"student/{part}": loss.float() for part, loss in own.items()}
        weights = dict.fromkeys(raw, weight)
        for name, method in self._methods():
            parts = {f"{name}/{part}": loss for part, loss in method(steps[name]).items()}
            refuse_half(parts)
            raw |= parts
            weights |= {f"{name}/{p}": w for p, w in method.weights_at(self.number).items()}
        return Losses(raw, weights)

    def _run(self, images: Images, targets: Targets) -> tuple[Any, dict[str, Step]]:
        """Run both models, the teacher first: the student's outputs, and each method's step."""
        with network_frame(self.student, self.teacher):
            taught = self._teach(images)
            labelled = self.student.training and isinstance(targets, list)
            inputs = (images, targets) if labelled else (images,)
            learnt = self._student_taps.read(lambda: self.student(*inputs))
        frame = learnt[1].get("frame")
        if frame is not None:
            same_frame(frame, taught[1].get("frame"))
            targets = targets if frame.targets is None else frame.targets
        steps = {name: self._step(name, images, targets, learnt, taught) for name in self.methods}
        return learnt[0], steps

    def _teach(self, images: Images) -> tuple[Any, dict[str, Any]]:
        """Run the teacher as far as its last tap; not at all when nothing is tapped."""
        taps = self._teacher_taps
        if taps is None or not taps.taps:
            return None, {}
        teacher = self._needed_teacher("a tap")
        if teacher.training:  # somebody called .train() on the teacher itself
            teacher.eval()
        # no_grad, not inference_mode: losses save the teacher's features for the backward pass.
        with torch.no_grad():
            return taps.read(lambda: teacher(images))

    def _step(
        self,
        name: str,
        images: Images,
        targets: Targets,
        learnt: tuple[Any, dict[str, Any]],
        taught: tuple[Any, dict[str, Any]],
    ) -> Step:
        method, teacher = self.methods[name], self.teacher

        def side(model: nn.Module, taps: Any, seen: tuple[Any, dict[str, Any]]) -> Side:
            return Side(model, {tap: seen[1][f"{name} {tap}"] for tap in taps}, seen[0])

        world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        return Step(
            images=images,
            targets=targets,
            student=side(self.student, method.student_taps, learnt),
            teacher=None if teacher is None else side(teacher, method.teacher_taps, taught),
            number=self.number,
            world_size=world,
        )

    def advance(self) -> None:
        """Count one optimizer step: schedules move on."""
        self.number += 1

    @torch.no_grad()
    def observe(self, images: Images, targets: Targets, name: str | None = None) -> None:
        """Show one calibration batch to a method, or to all that have a calibration."""
        with evaluation(self.student, self.teacher):
            _, steps = self._run(images, targets)
            for calibrated in self._calibrated(name):
                self._method(calibrated).observe(steps[calibrated])

    def solve(self, name: str | None = None) -> None:
        """Finish the calibration of a method, or of all that have one."""
        for calibrated in self._calibrated(name):
            self._method(calibrated).solve()

    @torch.no_grad()
    def overlays(self, images: Images, targets: Targets, name: str) -> dict[str, list[Tensor]]:
        """What a method can show of a batch, by name: (h, w) from 0 to 1 for each image."""
        with evaluation(self.student, self.teacher):
            _, steps = self._run(images, targets)
            return self._method(name).overlays(steps[name])

    def _calibrated(self, name: str | None) -> list[str]:
        if name is not None:
            return [name]
        return [name for name, method in self._methods() if method.calibration is not None]

    def check(
        self,
        images: Images,
        targets: Targets,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> Wiring:
        """Refuse a distillation that is not alive, and print who is connected to whom.

        Runs one batch and changes nothing; see :func:`limbeck.wiring.check` for what is refused.
        """
        wiring = check(self, images, targets, optimizer)
        rich.get_console().print(wiring)
        return wiring

    # -- what is trained, saved and frozen ------------------------------------------------------

    def named_trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters of the student and of the methods that take a gradient, by name."""
        for name, parameter in self.named_parameters():
            if parameter.requires_grad and not name.startswith("teacher."):
                yield name, parameter

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The student's and the adapters' parameters, never the teacher's."""
        return [parameter for _, parameter in self.named_trainable_parameters()]

    def teacher_names(self) -> list[str]:
        """Names of the teacher's parameters and buffers, for checkpoints and DDP to leave alone."""
        if self.teacher is None:
            return []
        names = self.teacher.state_dict(keep_vars=True) | dict(self.teacher.named_buffers())
        return [f"teacher.{name}" for name in names]

    def train(self, mode: bool = True) -> "Distillation":
        """Training or evaluation mode of student and methods; the teacher stays in evaluation."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def get_extra_state(self) -> dict[str, Any]:
        """The step count and the teacher's checksum."""
        if self._checksum is None and self.teacher is not None:
            self._checksum = checksum(self.teacher)
        return {"number": self.number, "teacher": self._checksum}

    def set_extra_state(self, state: Any) -> None:
        """Take the step count; refuse the state of a distillation by another teacher."""
        found = self.get_extra_state()["teacher"]
        if state["teacher"] != found:
            raise ValueError(
                f"this checkpoint was trained with another teacher: its weights have the checksum "
                f"{state['teacher']}, the present teacher's have {found}. Load the same weights."
            )
        self.number = state["number"]

    def close(self) -> None:
        """Remove every hook from student and teacher."""
        self._student_taps.close()
        if self._teacher_taps is not None:
            self._teacher_taps.close()


def name_methods(methods: Mapping[str, Method] | Sequence[Method]) -> dict[str, Method]:
    """Methods by name: their own, or the class names, numbered from the second on."""
    if isinstance(methods, Mapping):
        if "student" in methods:
            raise ValueError("'student' names the student's own losses; call the method otherwise")
        return dict(methods)
    named: dict[str, Method] = {}
    for method in methods:
        name = type(method).__name__
        earlier = sum(type(other) is type(method) for other in named.values())
        named[f"{name}{earlier + 1}" if earlier else name] = method
    return named


def _leave_teacher_out(module: nn.Module, state: Any, prefix: str, _: Any) -> None:
    assert isinstance(module, Distillation)
    for name in module.teacher_names():
        state.pop(prefix + name, None)


def _forgive_teacher(module: nn.Module, incompatible: Any) -> None:
    """The teacher is not in a checkpoint: its names are no missing keys."""
    assert isinstance(module, Distillation)
    names = tuple(module.teacher_names())
    missing = incompatible.missing_keys
    missing[:] = [key for key in missing if not key.endswith(names)]
