"""Knowledge distillation on logits.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network. NIPS 2014 Deep Learning
Workshop, arXiv:1503.02531, section 2.

The student learns the teacher's softened class probabilities. With temperature T, the teacher's
logits v and the student's z,

    p = softmax(v / T),    q = softmax(z / T),    L = T^2 * KL(p || q)

averaged over the batch. The gradient of KL shrinks with 1 / T^2, and T^2 keeps its size when T
changes (section 2). KL and the paper's cross-entropy differ by the entropy of p, which has no
gradient. The paper takes a weighted average with the cross-entropy on true labels: give ``weight``
alpha here and ``student_weight`` 1 - alpha to :class:`limbeck.Distillation`.

With ``standardise``, v and z are standardised in each image before they are divided by T (Sun et
al., CVPR 2024, see :func:`limbeck.methods.logits.standardised_logits`). The published values are
then a ``temperature`` of 2 (in some rows 3 or 4) and a ``weight`` of 9, beside a ``student_weight``
of 0.1 on CIFAR-100 and of 1 on ImageNet.
"""

import torch.nn.functional as F
from torch import Tensor

from limbeck.methods.base import Step
from limbeck.methods.logits import LogitMethod, images_by_classes
from limbeck.methods.pictures import Matrices
from limbeck.schedules import Weight


class KD(LogitMethod):
    """Hinton's knowledge distillation of a classifier.

    Args:
        temperature: The temperature T, above 0.
        weight: The weight of the loss: a number or a schedule.
        logits: The place of the logits (B, K) in both models. An empty string: their own output,
            or what it holds as ``logits`` where it is a mapping, as of Hugging Face's classifiers.
        other_classes: Whether a teacher is taken whose classes have other names, or another order:
            class k of the student learns from class k of the teacher, whatever they are called.
        standardise: Whether the logits of both are standardised in each image first.
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Raises:
        ValueError: The temperature is not above 0.
    """

    needs_targets = False

    def __init__(
        self,
        temperature: float = 4.0,
        weight: Weight = 1.0,
        logits: str = "",
        other_classes: bool = False,
        standardise: bool = False,
        teacher: str | None = None,
    ) -> None:
        super().__init__(temperature, logits, other_classes, standardise)
        self.teacher = teacher
        self.weights = {"logits": weight}

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The part ``logits``: the loss L."""
        student, teacher = self.logits_of_both(step)  # (B, K) each
        return {"logits": soft_divergence(student, teacher, self.temperature)}

    def picture(self, step: Step) -> Matrices:
        """The softened class probabilities of both models."""
        q, p = (F.softmax(z / self.temperature, dim=1) for z in self.logits_of_both(step))
        return images_by_classes(
            "What both models say of images, as probabilities of the classes, softened by the "
            f"temperature {self.temperature:g}: the student learns the teacher's. A dot is on the "
            "class of which the teacher is surest.",
            "probability",
            {"teacher": p, "student": q},
            p.argmax(dim=1),
        )


def soft_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), mean over B; both are (B, K)."""
    q = F.log_softmax(student.float() / temperature, dim=1)
    p = F.log_softmax(teacher.float() / temperature, dim=1)
    return temperature**2 * F.kl_div(q, p, reduction="batchmean", log_target=True)
