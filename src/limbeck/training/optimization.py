"""The optimizer and the learning rate, as a recipe states them."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from limbeck.pre_activation import NORMS
from limbeck.ranges import NOT_NEGATIVE, POSITIVE, Range, refuse_outside

log = logging.getLogger(__name__)

# A FrozenBatchNorm2d has no parameters; an AffineBatchNorm2d, which is one, has.
_OPTIMIZER = {
    "lr": Range(0, 1e4, open=True),
    "weight_decay": NOT_NEGATIVE,
    "norm_weight_decay": NOT_NEGATIVE,
    "bias_weight_decay": NOT_NEGATIVE,
    "bias_lr_factor": NOT_NEGATIVE,
    "momentum": Range(0, 1, open_above=True),
    "lr_factors": NOT_NEGATIVE,
    "weight_decays": NOT_NEGATIVE,
    "clip_each": POSITIVE,
}
_LEARNING_RATE = {
    "warm_up": NOT_NEGATIVE,
    "warm_up_factor": NOT_NEGATIVE,
    "milestones": Range(0),
    "gamma": NOT_NEGATIVE,
    "end_factor": NOT_NEGATIVE,
}


@dataclass(frozen=True)
class Optimizer:
    """SGD or AdamW over the parameters of the student and of the adapters.

    Attributes:
        name: The name of the optimizer, ``sgd`` or ``adamw``.
        lr: The peak of the learning rate.
        weight_decay: The weight decay of every parameter, apart from those that the next two
            arguments are about.
        norm_weight_decay: The weight decay of the affine parameters of norms. Default (None): as
            that of all others.
        bias_weight_decay: The weight decay of biases, which are the parameters named ``bias`` of
            all modules that are not norms. Default (None): as that of all others.
        bias_lr_factor: The factor on the learning rate of biases.
        momentum: The momentum of SGD. With ``one_cycle`` it moves between 0.95 and 0.85 instead.
        nesterov: Whether the momentum of SGD is Nesterov's.
        lr_factors: The factor on the learning rate of parameters by the prefix with which their
            names begin, such as that of a pretrained backbone, or ``methods`` as below; the longest
            prefix wins.
        weight_decays: The weight decay of parameters by the prefix with which their names begin, in
            place of ``weight_decay``; the longest prefix wins. What all methods train begins with
            ``methods``, and what one method trains with ``methods.<its name>``.
        clip_each: The norm to which the gradient of each parameter is clipped by itself, while
            ``trainer.gradient_clip_val`` is about all of them together. Default (None): they are
            not clipped.

    Raises:
        ValueError: There is no such optimizer, or a number is out of its range.
    """

    name: Literal["sgd", "adamw"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    norm_weight_decay: float | None = None
    bias_weight_decay: float | None = None
    bias_lr_factor: float = 1.0
    momentum: float = 0.9
    nesterov: bool = False
    lr_factors: Mapping[str, float] = field(default_factory=dict)
    weight_decays: Mapping[str, float] = field(default_factory=dict)
    clip_each: float | None = None

    def __post_init__(self) -> None:
        if self.name not in ("sgd", "adamw"):
            raise ValueError(
                f"model.optimizer.name is {self.name!r}; expected sgd or adamw. Give one of them."
            )
        refuse_outside(_OPTIMIZER, vars(self), "model.optimizer.")
        if self.nesterov and self.name == "sgd" and not self.momentum:
            raise ValueError(
                "model.optimizer.nesterov is true, but model.optimizer.momentum is 0: Nesterov's "
                "momentum needs one above 0, such as 0.9. Give one, or leave nesterov out."
            )

    def build(
        self, parameters: Iterable[tuple[str, nn.Parameter]], norms: set[int]
    ) -> torch.optim.Optimizer:
        """Build the optimizer.

        Args:
            parameters: The parameters to train, with their names.
            norms: The ids of the parameters that belong to norms.

        Returns:
            A new optimizer, with a group for each learning rate and weight decay.

        Raises:
            ValueError: Nothing is trained, or a prefix fits no parameter of the student.
        """
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        names = []
        for name, parameter in parameters:
            names.append(name.removeprefix("student."))
            lr = self.lr * _of_longest(self.lr_factors, names[-1], 1.0)
            decay = None
            if id(parameter) in norms:
                decay = self.norm_weight_decay
            elif name.rpartition(".")[2] == "bias":
                lr, decay = lr * self.bias_lr_factor, self.bias_weight_decay
            if decay is None:
                decay = _of_longest(self.weight_decays, names[-1], self.weight_decay)
            groups.setdefault((lr, decay), []).append(parameter)
        self._refuse_unused(names)
        if not groups:
            raise ValueError(
                "nothing is trained: every parameter of the student is frozen (requires_grad is "
                "False), and no method has any of its own. Unfreeze a part of the student."
            )
        described: list[dict[str, Any]] = [
            {"params": members, "lr": lr, "weight_decay": decay}
            for (lr, decay), members in groups.items()
        ]
        if self.name == "adamw":
            return torch.optim.AdamW(described)
        return torch.optim.SGD(
            described, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov
        )

    def clip(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient of each of the optimizer's parameters to the norm ``clip_each``."""
        if self.clip_each is not None:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    nn.utils.clip_grad_norm_(parameter, self.clip_each)

    def _refuse_unused(self, names: Sequence[str]) -> None:
        for field_name in ("lr_factors", "weight_decays"):
            # A recipe states what its methods have, and the plain student's run has none of them.
            stated = [p for p in getattr(self, field_name) if p.partition(".")[0] != "methods"]
            unused = [p for p in stated if not any(_begins(name, p) for name in names)]
            if unused:
                raise ValueError(
                    f"model.optimizer.{field_name} names {', '.join(sorted(unused))}, with which "
                    "no trained parameter of the student begins. Give paths that `limbeck inspect` "
                    "lists."
                )


def _of_longest(stated: Mapping[str, float], name: str, default: float) -> float:
    """The value that is stated for the longest prefix of a name."""
    fitting = [prefix for prefix in stated if _begins(name, prefix)]
    return stated[max(fitting, key=len)] if fitting else default


def _begins(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def norm_parameters(model: nn.Module) -> set[int]:
    """The ids of the parameters of a model that belong to norms."""
    return {id(p) for m in model.modules() if isinstance(m, NORMS) for p in m.parameters()}


ShapeName = Literal["constant", "step", "cosine", "one_cycle"]


@dataclass(frozen=True)
class LearningRate:
    """How the learning rate moves over the run.

    Attributes:
        shape: The shape of its course after the warm-up. ``constant`` leaves it at its peak;
            ``step`` multiplies it by ``gamma`` at each milestone; ``cosine`` lets it fall to
            ``end_factor`` times its peak; ``one_cycle`` goes up over the warm-up and down to 0 by
            cosines, with momentum in reverse (Smith and Topin, arXiv:1708.07120). Any other shape
            is a function, or an object that is called, which a recipe states by its path: it takes
            the share of the training after the warm-up that is done, from 0 to 1, and gives the
            factor on the learning rate. It has to depend on that share alone, so that a resumed run
            goes on exactly.
        warm_up: The length of the linear warm-up, in the unit of ``interval``; below 1, as a share
            of the run.
        warm_up_factor: The factor on the learning rate at the first step of the warm-up.
        interval: How often the learning rate moves: after every optimizer ``step``, or after every
            ``epoch`` (not with ``one_cycle``).
        milestones: When ``step`` lowers the learning rate, in the unit ``unit``.
        unit: What the milestones count.
        gamma: The factor by which ``step`` lowers the learning rate at each milestone.
        end_factor: The factor on the learning rate at which ``cosine`` ends.

    Raises:
        ValueError: There is no such shape, interval or unit, ``step`` has no milestones,
            ``one_cycle`` is to move after every epoch, or a number is out of its range.

    Example:
        >>> from limbeck.training.optimization import LearningRate
        >>> rate = LearningRate(lambda done: (1 - done) ** 2, warm_up=0)
        >>> rate.factor(step=50, total=100, warm_up=0, milestones=())
        0.25
    """

    shape: ShapeName | Callable[[float], float] = "one_cycle"
    warm_up: float = 0.1
    warm_up_factor: float = 0.001
    interval: Literal["step", "epoch"] = "step"
    milestones: Sequence[int] = ()
    unit: Literal["epochs", "steps"] = "epochs"
    gamma: float = 0.1
    end_factor: float = 0.0

    def __post_init__(self) -> None:
        refuse_outside(_LEARNING_RATE, vars(self), "model.learning_rate.")
        if not callable(self.shape) and self.shape not in get_args(ShapeName):
            raise ValueError(
                f"model.learning_rate.shape is {self.shape!r}; expected "
                f"{', '.join(get_args(ShapeName))} or a callable. Give one of them."
            )
        for name, known in (("interval", ("step", "epoch")), ("unit", ("epochs", "steps"))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"model.learning_rate.{name} is {getattr(self, name)!r}; expected "
                    f"{' or '.join(known)}. Give one of them."
                )
        if self.shape == "step" and not self.milestones:
            raise ValueError(
                "model.learning_rate.shape is 'step', but there are no milestones. Expected one or "
                "more; give model.learning_rate.milestones, in epochs or, with "
                "model.learning_rate.unit: steps, in steps."
            )
        if self.shape == "one_cycle" and self.interval == "epoch":
            raise ValueError(
                "model.learning_rate.interval is 'epoch', but a one_cycle moves every step: it "
                "needs the interval 'step'. Leave it out, or choose another "
                "model.learning_rate.shape."
            )

    def build(
        self, optimizer: torch.optim.Optimizer, total_steps: int, steps_per_epoch: int
    ) -> LRScheduler:
        """Build the scheduler.

        Args:
            optimizer: The optimizer, whose groups have their peaks as learning rates.
            total_steps: The number of optimizer steps in the whole run.
            steps_per_epoch: The number of optimizer steps in an epoch.

        Returns:
            A scheduler to step after every optimizer step.
        """
        every = steps_per_epoch if self.interval == "epoch" else 1
        warm_up = self.warm_up * (total_steps if self.warm_up < 1 else every)
        if warm_up >= total_steps:  # in a trial of a published recipe it can be meant
            log.warning(
                "model.learning_rate.warm_up is %g (%ss), and the whole run has %d steps: the "
                "learning rate still rises when training ends. Expected a warm-up that ends "
                "before; unless this is a trial, give a shorter one, or a share of the run below "
                "1.",
                self.warm_up,
                self.interval,
                total_steps,
            )
        if self.shape == "one_cycle":
            peaks = [group["lr"] for group in optimizer.param_groups]
            # torch divides by the length of both ways: one of a single step cannot be.
            up = min(warm_up, total_steps - 1)
            share = up / total_steps if up > 1 else 0.0
            return OneCycleLR(optimizer, peaks, total_steps=total_steps, pct_start=share)
        unit = steps_per_epoch if self.unit == "epochs" else 1
        milestones = [milestone * unit for milestone in self.milestones]
        factor = partial(
            self.factor, total=total_steps, warm_up=warm_up, milestones=milestones, every=every
        )
        return LambdaLR(optimizer, factor)

    def factor(
        self, step: int, total: int, warm_up: float, milestones: Sequence[int], every: int = 1
    ) -> float:
        """The factor on the learning rate at a step, of every shape but ``one_cycle``.

        Args:
            step: The number of optimizer steps taken.
            total: The number of optimizer steps in the whole run.
            warm_up: The number of optimizer steps in the warm-up.
            milestones: The milestones in optimizer steps.
            every: The number of optimizer steps after which the learning rate moves.

        Returns:
            The factor.
        """
        step -= step % every
        done = min(1.0, max(0.0, step - warm_up) / max(1.0, total - warm_up))
        factor = 1.0
        if callable(self.shape):
            factor = float(self.shape(done))
        elif self.shape == "step":
            factor = self.gamma ** sum(step >= milestone for milestone in milestones)
        elif self.shape == "cosine":
            falling = 0.5 * (1 + math.cos(math.pi * done))
            factor = self.end_factor + (1 - self.end_factor) * falling
        if step < warm_up:
            factor *= 1 - (1 - step / warm_up) * (1 - self.warm_up_factor)
        return factor
