"""Knowledge distillation on logits.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network. NIPS 2014 Deep Learning
Workshop, arXiv:1503.02531, section 2.

The student learns the teacher's softened class probabilities. With temperature T, the teacher's
logits v and the student's z,

    p = softmax(v / T),    q = softmax(z / T),    L = T^2 * KL(p || q)

averaged over the batch. T^2 keeps the gradient's size when T changes, since it shrinks with
1 / T^2 (section 2). KL and the paper's cross-entropy differ by the entropy of p, which has no
gradient. The paper takes a weighted average with the cross-entropy on true labels: give ``weight``
alpha here and ``student_weight`` 1 - alpha to :class:`limbeck.Distillation`.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.losses import logits_of
from limbeck.methods.base import Method, Side, Step, class_difference
from limbeck.ranges import POSITIVE, refuse_outside
from limbeck.schedules import Weight


class KD(Method):
    """Hinton's knowledge distillation of a classifier.

    Args:
        temperature: The temperature T, above 0.
        weight: The weight of the loss: a number or a schedule.
        logits: The place of the logits (B, K) in both models. An empty string: their own output,
            or what it holds as ``logits`` where it is a mapping, as of Hugging Face's classifiers.
        other_classes: Whether a teacher is taken whose classes have other names, or another order:
            class k of the student learns from class k of the teacher, whatever they are called.

    Raises:
        ValueError: The temperature is not above 0.
    """

    def __init__(
        self,
        temperature: float = 4.0,
        weight: Weight = 1.0,
        logits: str = "",
        other_classes: bool = False,
    ) -> None:
        super().__init__()
        refuse_outside({"temperature": POSITIVE}, {"temperature": temperature})
        self.temperature = temperature
        self.student_taps = {"logits": logits}
        self.teacher_taps = {"logits": logits}
        self.weights = {"logits": weight}
        self.compares_classes = not other_classes

    def connect(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Refuse a teacher whose named classes are others than those that the student names."""
        ours = getattr(student, "classes", None)
        if self.compares_classes and isinstance(ours, list | tuple) and ours:
            difference = class_difference(teacher, ours)
            if difference is not None:
                raise ValueError(
                    f"KD: the teacher's classes are not the student's: {difference} Both need the "
                    "same classes in the same order. Give such a teacher, or set other_classes to "
                    "true to take them as they are."
                )

    def setup(self, step: Step) -> None:
        """Refuse a pair without logits, or whose class counts differ."""
        student, teacher = _logits("student", step.student), _logits("teacher", step.taught)
        if student.shape != teacher.shape:
            raise ValueError(
                f"KD compares logits, and the student's have the shape {tuple(student.shape)}, the "
                f"teacher's {tuple(teacher.shape)}. Both need the same classes in the same order: "
                "give a teacher of the student's classes, or leave KD out."
            )

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The part ``logits``: the loss L."""
        student = _logits("student", step.student)  # (B, K)
        teacher = _logits("teacher", step.taught)  # (B, K)
        return {"logits": soft_divergence(student, teacher, self.temperature)}


def _logits(name: str, side: Side) -> Tensor:
    """The logits (B, K) of one side, also where a model returns a mapping that holds them."""
    found = side.features["logits"]
    logits = logits_of(found)
    if logits is None:
        shape = f" {tuple(found.shape)}" if isinstance(found, Tensor) else ""
        raise ValueError(
            f"KD compares the logits (B, K) of classifiers, and the {name}, a "
            f"{type(side.model).__name__}, gives a {type(found).__name__}{shape}. Set KD's "
            "argument logits to the place of the logits in both models; for detectors, give "
            "a method that compares features."
        )
    return logits


def soft_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), mean over B; both are (B, K)."""
    q = F.log_softmax(student.float() / temperature, dim=1)
    p = F.log_softmax(teacher.float() / temperature, dim=1)
    return temperature**2 * F.kl_div(q, p, reduction="batchmean", log_target=True)
