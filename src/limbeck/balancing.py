"""How strongly each term of the losses pulls at the student."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.methods.base import Images, Targets
from limbeck.pair import Pair
from limbeck.schedules import largest
from limbeck.terminal import Table
from limbeck.wiring import as_text, undisturbed

# Gradients of a loss in float16 may vanish without a factor, or overflow with one. Powers of two
# change no other digits.
_SCALES = (2.0**16, 2.0**8, 1.0, 2.0**-8, 2.0**-16)


@dataclass(frozen=True)
class Term:
    """How large one loss term is on one batch, and how strongly it pulls.

    Attributes:
        name: ``student/<name>`` or ``<method>/<part>``.
        raw: The value of the term without its weight.
        weighted: The value of the term with its present weight.
        gradient: The L2 norm of the weighted term's gradient over the student's parameters.
        share: ``gradient`` over the sum of all terms' gradients.
        level: The weight at which the term's gradient is as large as those of the student's own
            losses together with the largest weight that these ever have, whatever its own present
            weight. None for those losses themselves, and for a term without a gradient.
    """

    name: str
    raw: float
    weighted: float
    gradient: float
    share: float
    level: float | None = None


@dataclass(frozen=True)
class Balance:
    """What :func:`balance` found: how the terms of a loss compare. It prints as a table.

    Attributes:
        terms: The student's own terms, then those of the methods.
    """

    terms: tuple[Term, ...]

    def __rich__(self) -> Table:
        table = Table("term", "raw", "weighted", "gradient", "share", "level at")
        table.caption = "level at: the weight that gives a term the gradient of the task's losses"
        for t in self.terms:
            values = (f"{value:.4g}" for value in (t.raw, t.weighted, t.gradient))
            level = "-" if t.level is None else f"{t.level:.2g}"
            table.add_row(t.name, *values, f"{t.share:.0%}", level)
        return table

    def __str__(self) -> str:
        return as_text(self.__rich__())

    def advice(self) -> list[str]:
        """A suggestion for every distillation term that does nothing or drowns the task."""
        lines = []
        for t in self.terms:
            if t.gradient and t.level and not 0.01 <= t.share <= 0.9:
                does = "hardly moves the student" if t.share < 0.01 else "drowns the task"
                lines.append(
                    f"{t.name} has {t.share:.1%} of the gradient: it {does}. A weight of "
                    f"{t.level:.2g} would make it as strong as the student's own losses."
                )
        return lines


def balance(pair: Pair, images: Images, targets: Targets) -> Balance:
    """Measure the size and the share of the gradient of every loss term on one batch.

    Call it after some steps, when the adapters pass a gradient on, to find weights by which a
    method neither does nothing nor drowns the task. Nothing is changed by it: modes, statistics of
    norms, gradients and the random state are as before.

    Args:
        pair: The distillation.
        images: The images of one batch, as the distillation takes them.
        targets: The targets of that batch.

    Returns:
        Every term with its gradient, and advice on weights.

    Example:
        >>> import torch
        >>> from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
        >>> from limbeck import Distillation, methods
        >>> from limbeck import balance
        >>> student = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)
        >>> teacher = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=4)
        >>> pair = Distillation(student, teacher, [methods.KD(weight=1000.0)])
        >>> found = balance(pair, torch.rand(2, 3, 64, 64), torch.tensor([0, 3]))
        >>> [term.name for term in found.terms]
        ['student/cross_entropy', 'KD/logits']
        >>> found.terms[1].level < 1000.0  # the weight that makes KD as strong as the task
        True
        >>> print(found.advice()[0])
        KD/logits has 9... of the gradient: it drowns the task. A weight of ...
    """
    with undisturbed(pair), torch.enable_grad():
        losses = pair(images, targets)
        parameters = [p for p in pair.student.parameters() if p.requires_grad]
        # Of the raw losses: a term whose weight is still 0 is compared too.
        norms = {name: _gradient_norm(loss, parameters) for name, loss in losses.raw.items()}
    gradients = {name: abs(losses.weights[name]) * norm for name, norm in norms.items()}
    everything = sum(gradients.values()) or 1.0
    # Of a scheduled weight the largest one, as a level is to hold for the whole run.
    task = largest(pair.student_weight) * sum(n for name, n in norms.items() if _own(name))
    return Balance(
        tuple(
            Term(
                name,
                raw=losses.raw[name].item(),
                weighted=losses[name].item(),
                gradient=gradient,
                share=gradient / everything,
                level=task / norms[name] if task and norms[name] and not _own(name) else None,
            )
            for name, gradient in gradients.items()
        )
    )


def _own(name: str) -> bool:
    return name.startswith("student/")


def _gradient_norm(loss: Tensor, parameters: list[nn.Parameter]) -> float:
    if not loss.requires_grad:
        return 0.0
    norm = math.inf
    for scale in _SCALES:
        scaled = torch.autograd.grad(loss * scale, parameters, retain_graph=True, allow_unused=True)
        norms = [g.float().norm() / scale for g in scaled if g is not None]
        norm = torch.stack(norms).norm().item() if norms else 0.0
        if math.isfinite(norm):
            break
    return norm
