"""What is checked before the first optimizer step."""

import io
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from limbeck.frame import foreground_classes
from limbeck.guard import has_boxes, refuse_bad_images, refuse_bad_targets
from limbeck.losses import named_scalars
from limbeck.methods.base import Images, Method, Step, Targets
from limbeck.pair import Pair
from limbeck.tap import tensors_in
from limbeck.teachers import side_of
from limbeck.terminal import Table

log = logging.getLogger(__name__)

_EVALUATED = (
    "The student is in evaluation mode: its norms keep their statistics, and dropout is off. Call "
    "pair.train() before the first step, unless that is meant."
)


class NotAliveError(RuntimeError):
    """A distillation in which something named has no effect, or has one that it must not have."""


@dataclass(frozen=True)
class Connection:
    """One line of the wiring table: a student's place, the teacher's, and what joins them.

    Attributes:
        method: The name of the method.
        teacher_tap: The place in the teacher; ``-`` where the method reads none there.
        teacher_shape: The shape of the teacher's value, and how many more tensors it has.
        student_tap: The place in the student; ``-`` where the method reads none there.
        student_shape: The shape of the student's value, and how many more tensors it has.
        adapter: What brings the student's value to the teacher's shape; ``-`` where nothing does.
        weight: The present weights of the losses of this place, or of the whole method.
        levels: Which of the student's levels is compared with which of the teacher's; ``-`` where
            it is each with the one of its number.
    """

    method: str
    teacher_tap: str
    teacher_shape: str
    student_tap: str
    student_shape: str
    adapter: str
    weight: str
    levels: str = "-"


@dataclass(frozen=True)
class Wiring:
    """What :func:`check` found: who is connected to whom. It prints as a table.

    Attributes:
        connections: The lines of the table, method by method.
    """

    connections: tuple[Connection, ...]

    def __rich__(self) -> Table:
        columns = ["method", "teacher", "shape", "student", "shape", "adapter", "weight"]
        if any(c.levels != "-" for c in self.connections):
            columns.append("levels")
        table = Table(*columns)
        for c in self.connections:
            cells = [str(getattr(c, field)) for field in c.__dataclass_fields__]
            table.add_row(*cells[: len(columns)])
        return table

    def __str__(self) -> str:
        return as_text(self.__rich__())


def as_text(table: Table) -> str:
    """A table as plain text."""
    out = io.StringIO()
    Console(file=out, width=140).print(table)
    return out.getvalue()


def check(
    pair: Pair,
    images: Images,
    targets: Targets,
    optimizer: torch.optim.Optimizer | None = None,
) -> Wiring:
    """Run one batch and refuse a distillation in which something has no effect.

    Call it before the first step of a training loop of your own; ``limbeck fit`` does. Nothing is
    changed by it: modes, statistics of norms, gradients and the random state are as before. A
    student in evaluation mode, as :func:`limbeck.models.load_student` gives it, is warned of.

    Args:
        pair: The distillation.
        images: The images of one batch, as the distillation takes them.
        targets: The targets of that batch.
        optimizer: The optimizer that is to train the pair. Default (None): it is not known yet,
            and nothing is said about what it holds.

    Returns:
        Who is connected to whom, with shapes and adapters.

    Raises:
        NotAliveError: A part of a loss is not connected to the student (whatever its weight: a
            warm-up from 0 is no excuse), a teacher would be trained, or the optimizer lacks a
            parameter of the student or of an adapter.
        limbeck.TapError: A tap caught nothing.
        TypeError: The student gives neither losses nor logits, or a loss has no name.
        ValueError: The student and the teacher see the images in different frames, or the batch is
            not what the documentation says: images that do not range from 0 to 1, labels of no
            class, boxes without area, see :mod:`limbeck.guard`.

    Example:
        >>> import torch
        >>> from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
        >>> from limbeck import Distillation, methods
        >>> from limbeck import check
        >>> student = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)
        >>> teacher = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=4)
        >>> pair = Distillation(student, teacher, {"hint": methods.FitNet(["C4"])})
        >>> batch = torch.rand(2, 3, 64, 64), torch.tensor([0, 3])
        >>> check(pair, *batch).connections[0].adapter
        'conv 1x1 256 to 1024'
        >>> forgetful = torch.optim.SGD(student.parameters(), lr=0.01)
        >>> check(pair, *batch, forgetful)
        Traceback (most recent call last):
        limbeck.wiring.NotAliveError: 2 trainable parameters are not in the optimizer, ...
    """
    _refuse_frozen_student(pair)
    _refuse_trained_teacher(pair, optimizer)
    _refuse_forgotten_parameters(pair, optimizer)
    if not pair.student.training:
        log.warning(_EVALUATED)
    with undisturbed(pair), torch.enable_grad():
        refuse_bad_values(pair, images, targets)
        outputs, steps = pair.run(images, targets)
        pair.own_losses(outputs, targets, wait=True)
        for name, method in pair.named_methods():
            _refuse_idle_parts(name, method, steps[name], pair.student)
        connections = [
            c for name, m in pair.named_methods() for c in _connect(name, m, steps[name])
        ]
    return Wiring(tuple(connections))


def refuse_bad_values(pair: Pair, images: Images, targets: Targets) -> None:
    """Look at all values of a batch, wherever they lie."""
    pair.refuse_malformed(images, targets)
    refuse_bad_images(images, raw=pair.raw)
    if isinstance(targets, list) and has_boxes(targets):
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        refuse_bad_targets(targets, foreground_classes(pair.student), sizes)


def _refuse_frozen_student(pair: Pair) -> None:
    if not any(parameter.requires_grad for parameter in pair.student.parameters()):
        raise NotAliveError(
            "no parameter of the student is trained: all have requires_grad=False. Unfreeze the "
            "part of it that is to learn."
        )


def _refuse_trained_teacher(pair: Pair, optimizer: torch.optim.Optimizer | None) -> None:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]} if optimizer else ()
    for key, teacher in pair.every_teacher().items():
        for name, parameter in teacher.named_parameters():
            if parameter.requires_grad or id(parameter) in held:
                raise NotAliveError(
                    f"{side_of(key)} parameter {name!r} would be trained: it "
                    f"{'requires a gradient' if parameter.requires_grad else 'is in the optimizer'}"
                    ". Build the optimizer from pair.trainable_parameters() and leave the teacher "
                    "frozen."
                )


def _refuse_forgotten_parameters(pair: Pair, optimizer: torch.optim.Optimizer | None) -> None:
    if optimizer is None:
        return
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    forgotten = [name for name, p in pair.named_trainable_parameters() if id(p) not in held]
    if forgotten:
        raise NotAliveError(
            f"{len(forgotten)} trainable parameters are not in the optimizer, first "
            f"{', '.join(forgotten[:3])}. Build it from pair.trainable_parameters(), which holds "
            "the adapters too."
        )


def _refuse_idle_parts(name: str, method: Method, step: Step, student: nn.Module) -> None:
    """Refuse a method of which a part has no weight, or nothing to do with the student."""
    parameters = [p for p in student.parameters() if p.requires_grad]
    losses = named_scalars(method(step), f"method {name!r}")
    method.refuse_unweighted(name, losses)
    for part, loss in losses.items():
        _refuse_unconnected(f"{name}/{part}", loss, parameters, method)


def _refuse_unconnected(
    name: str, loss: Tensor, parameters: list[nn.Parameter], method: Method
) -> None:
    gradients: tuple[Tensor | None, ...] = ()
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    if all(gradient is None for gradient in gradients):
        taps = ", ".join(str(t) or "<model>" for t in method.student_taps.values()) or "none"
        raise NotAliveError(
            f"{name} is not connected to the student: it has no gradient with respect to any of "
            f"its trained parameters (student taps: {taps}). Are those frozen, or detached?"
        )


def _connect(name: str, method: Method, step: Step) -> Iterator[Connection]:
    weights = method.weights_at(step.number)
    teacher = step.teacher.features if step.teacher is not None else {}
    for tap_name in dict.fromkeys([*method.student_taps, *method.teacher_taps]):
        adapter = method.adapter_of(tap_name)
        own = {w for part, w in weights.items() if f"{part}.".startswith(f"{tap_name}.")}
        yield Connection(
            method=name,
            teacher_tap=str(method.teacher_taps.get(tap_name, "-")) or "<model>",
            teacher_shape=_shape(teacher.get(tap_name)),
            student_tap=str(method.student_taps.get(tap_name, "-")) or "<model>",
            student_shape=_shape(step.student.features.get(tap_name)),
            adapter="-" if adapter is None else _describe(adapter),
            weight=", ".join(f"{w:g}" for w in sorted(own or set(weights.values()))),
            levels=method.levels_of(tap_name) or "-",
        )


def _shape(feature: Any) -> str:
    shapes = ["x".join(map(str, t.shape)) for t in tensors_in(feature)]
    return shapes[0] + (f" (+{len(shapes) - 1})" if len(shapes) > 1 else "") if shapes else "-"


def _describe(adapter: nn.Module) -> str:
    if isinstance(adapter, nn.Conv2d):
        size = "x".join(map(str, adapter.kernel_size))
        return f"conv {size} {adapter.in_channels} to {adapter.out_channels}"
    if isinstance(adapter, nn.Linear):
        return f"linear {adapter.in_features} to {adapter.out_features}"
    if isinstance(adapter, nn.Sequential):
        return ", ".join(_describe(part) for part in adapter)
    return type(adapter).__name__


@contextmanager
def undisturbed(pair: Pair) -> Iterator[None]:
    """Within, the pair is in training mode; after, modes, buffers and random state are as before.

    Compiled models run eagerly: a compiled graph has one backward pass, not one for each term.
    """
    modes = {module: module.training for module in pair.modules()}
    buffers = [
        (module, name, buffer, buffer.clone())
        for part in (pair.student, pair.methods)
        for module in part.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    devices = {p.device.index for p in pair.parameters() if p.device.type == "cuda"}
    others = random.getstate(), np.random.get_state()  # noqa: NPY002  # from which other models draw
    with (
        torch.random.fork_rng(devices=sorted(d for d in devices if d is not None)),
        torch.compiler.set_stance("force_eager"),
    ):
        try:
            pair.train()
            yield
        finally:
            with torch.no_grad():
                for module, name, buffer, value in buffers:
                    buffer.copy_(value)
                    setattr(module, name, buffer)  # where it was replaced, not overwritten
            for module, mode in modes.items():
                module.training = mode
            random.setstate(others[0])
            np.random.set_state(others[1])  # noqa: NPY002
