"""Knowledge distillation from a stronger teacher.

Huang, You, Wang, Qian, Xu: Knowledge Distillation from A Stronger Teacher. NeurIPS 2022,
arXiv:2205.10536.

A strong teacher's probabilities are far from what a small student can give. DIST asks for their
relations alone, by Pearson's correlation of the student's and the teacher's

    rho(a, b) = <a - mean a, b - mean b> / (|a - mean a| |b - mean b|)

which a shift and a scale of either do not change. With a temperature T, the teacher's logits v, the
student's z, p = softmax(v / T) and q = softmax(z / T), both (B, K), the loss is
beta * inter + gamma * intra, where

    inter = T^2 * (1 - mean over images of rho(q_b, p_b))         between the classes of an image
    intra = T^2 * (1 - mean over classes of rho(q_:k, p_:k))      between the images, for a class

A class's images are those of one process, of which there should be 32 or more. With one image there
is no relation, and intra is 0 here (the original's is T^2, without a gradient).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.methods.base import Step
from limbeck.methods.logits import ROUNDING, LogitMethod, images_by_classes
from limbeck.methods.pictures import Matrices
from limbeck.schedules import Weight


class DIST(LogitMethod):
    """Distillation of a classifier by correlations, for teachers much stronger than the student.

    It needs no labels. The published values are a temperature of 1 on ImageNet and of 4 on
    CIFAR-100, and beta = gamma = 1 in a loss whose weight is 2: both are 2 here.

    Args:
        beta: The weight of the part ``inter``: a number or a schedule.
        gamma: The weight of the part ``intra``: a number or a schedule.
        temperature: The temperature T, above 0.
        logits: The place of the logits (B, K) in both models. An empty string: their own output,
            or what it holds as ``logits`` where it is a mapping, as of Hugging Face's classifiers.
        other_classes: Whether a teacher is taken whose classes have other names, or another order:
            class k of the student learns from class k of the teacher, whatever they are called.
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Raises:
        ValueError: The temperature is not above 0.
    """

    needs_targets = False

    def __init__(
        self,
        beta: Weight = 2.0,
        gamma: Weight = 2.0,
        temperature: float = 1.0,
        logits: str = "",
        other_classes: bool = False,
        teacher: str | None = None,
    ) -> None:
        super().__init__(temperature, logits, other_classes)
        self.teacher = teacher
        self.weights = {"inter": beta, "intra": gamma}

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The parts ``inter`` and ``intra``: the losses between classes and between images."""
        q, p = (F.softmax(z / self.temperature, dim=1) for z in self.logits_of_both(step))
        inter = 1 - correlation(q, p).mean()
        intra = 1 - correlation(q.T, p.T).mean() if len(q) > 1 else 0 * q.sum()
        return {"inter": self.temperature**2 * inter, "intra": self.temperature**2 * intra}

    def picture(self, step: Step) -> Matrices:
        """The probabilities of both models, as far as a correlation along the classes sees them."""
        q, p = (F.softmax(z / self.temperature, dim=1) for z in self.logits_of_both(step))
        return images_by_classes(
            "What both models say of images, as far as the part inter sees it: the probabilities "
            f"of the classes at the temperature {self.temperature:g}, less their mean, and each "
            "row brought to the length 1. The products of two rows add up to their correlation, "
            "which the student makes large; intra does the same along the columns. A dot is on the "
            "class of which the teacher is surest.",
            "in relation to the row",
            {
                "teacher": F.normalize(_centred(p), dim=1),
                "student": F.normalize(_centred(q), dim=1),
            },
            p.argmax(dim=1),
        )


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of each row.

    Args:
        a: The first rows, (R, N), in float32.
        b: The second rows, (R, N), in float32.

    Returns:
        The correlations, (R,), with the original's 1e-8 in the denominator. A row without variation
        correlates with nothing: 0, without a gradient (the 1e-8 makes the original's 1e5 there).
    """
    a, b = _centred(a), _centred(b)
    norms: Tensor = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    return (a * b).sum(dim=1) / (norms + 1e-8)


def _centred(rows: Tensor) -> Tensor:
    """Rows less their means; rows whose values are all the same become 0, without a gradient."""
    centred = rows - rows.mean(dim=1, keepdim=True)
    constant = centred.abs().amax(dim=1) <= ROUNDING * rows.abs().amax(dim=1)
    return centred.masked_fill(constant[:, None], 0.0)
