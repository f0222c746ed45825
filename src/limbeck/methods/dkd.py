"""Decoupled knowledge distillation.

Zhao, Cui, Song, Qiu, Liang: Decoupled Knowledge Distillation. CVPR 2022, arXiv:2203.08679.

The divergence of KD is the sum of two terms: one of how sure the teacher is of the true class, and
one of how it divides the rest among the other classes. KD multiplies the second by 1 - p_y, so that
it all but vanishes where the teacher is sure. Here each term has a weight of its own. With the
temperature T, the teacher's logits v, the student's z, the label y, and

    p = softmax(v / T),    q = softmax(z / T)                              over all K classes
    p^ = softmax of v / T, q^ = softmax of z / T                           over those that are not y

the loss is alpha * TCKD + beta * NCKD, where

    TCKD = T^2 * KL((p_y, 1 - p_y) || (q_y, 1 - q_y))                      the target class
    NCKD = T^2 * KL(p^ || q^)                                              the other classes

averaged over the batch. In a two-stage detector (:class:`DetectorDKD`) the regions that the box
head is trained on stand in the place of images: their labels are y, with the background as one more
class, z is what the student's box head says of them, and v what the teacher's box head says of the
same regions in the teacher's maps.

Everything is computed from logarithms of probabilities: where logits lie further apart than 104 T,
the original takes the logarithm of a probability that float32 has rounded to 0, and gives NaN.

The published rows warm both weights up over the first epochs, 20 on CIFAR-100, by stairs:
``Staircase(8.0, stairs=20, every=781)`` with 781 steps an epoch. Standardised logits (Sun et al.,
CVPR 2024, see :func:`limbeck.methods.logits.standardised_logits`) have published rows with a
``temperature`` of 2, and alpha and beta 9 times what they are otherwise.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.landmarks import landmarks
from limbeck.methods.base import Step
from limbeck.methods.logits import LogitMethod, images_by_classes
from limbeck.methods.pictures import Matrices, OverImages, of_objects
from limbeck.models.detection.parts.roi_heads import class_logits, region_labels
from limbeck.schedules import Weight


class DKD(LogitMethod):
    """Decoupled knowledge distillation of a classifier.

    It needs labels. The published values: on CIFAR-100 a temperature of 4, alpha 1, and beta 8 (2
    from ResNet-56 to 20 and from 110 to 32, 6 between wide ResNets and from VGG13); on ImageNet a
    temperature of 1, alpha 1, and beta 0.5 (ResNet-34 to ResNet-18) or 2 (ResNet-50 to
    MobileNetV1).

    Args:
        alpha: The weight of TCKD: a number or a schedule.
        beta: The weight of NCKD: a number or a schedule.
        temperature: The temperature T, above 0.
        logits: The place of the logits (B, K) in both models. An empty string: their own output,
            or what it holds as ``logits`` where it is a mapping, as of Hugging Face's classifiers.
        other_classes: Whether a teacher is taken whose classes have other names, or another order:
            class k of the student learns from class k of the teacher, whatever they are called.
        standardise: Whether the logits of both are standardised in each image first.
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Raises:
        ValueError: The temperature is not above 0.
    """

    def __init__(
        self,
        alpha: Weight = 1.0,
        beta: Weight = 8.0,
        temperature: float = 4.0,
        logits: str = "",
        other_classes: bool = False,
        standardise: bool = False,
        teacher: str | None = None,
    ) -> None:
        super().__init__(temperature, logits, other_classes, standardise)
        self.teacher = teacher
        self.weights = {"tckd": alpha, "nckd": beta}

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The parts ``tckd`` and ``nckd``: the losses of the target class and of the others."""
        labels = self._labels(step)
        tckd, nckd = decoupled(*self.logits_of_both(step), labels, self.temperature)
        return {"tckd": tckd, "nckd": nckd}

    @staticmethod
    def _labels(step: Step) -> Tensor:
        if not isinstance(step.targets, Tensor) or step.targets.is_floating_point():
            mixed = isinstance(step.targets, Tensor)
            found = "probabilities of classes" if mixed else type(step.targets).__name__
            raise TypeError(
                "DKD needs one class for each image: targets that are class indices (B,), and the "
                f"batch has {found}. Leave augmentations out that mix images, or take KD or DIST, "
                "which need no labels; two-stage detectors have DetectorDKD."
            )
        return step.targets.long()

    def picture(self, step: Step) -> Matrices:
        """The probability of the true class, and how the rest is divided, of both models."""
        labels, shown = self._labels(step), {}
        sides = zip(("teacher", "student"), reversed(self.logits_of_both(step)), strict=True)
        for side, logits in sides:
            own, rest = divided(logits, labels, self.temperature)
            others = _other_classes(labels, logits.shape[1])
            beside = torch.zeros_like(logits).scatter(1, others, rest.exp())
            shown[side] = beside.scatter(1, labels[:, None], own[:, :1].exp())
        return images_by_classes(
            "What both models say of images, softened by the temperature "
            f"{self.temperature:g}: on a dot, the probability of the true class, which the part "
            "tckd compares; beside it, how the rest is divided among the other classes, in shares "
            "of that rest, which nckd compares.",
            "probability",
            shown,
            labels,
        )


class DetectorDKD(LogitMethod):
    """Decoupled knowledge distillation of a two-stage detector's box head.

    Student and teacher are two-stage detectors of the same classes, whatever their backbones are.
    The defaults are the published values, without a warm-up; beside
    ``ReviewKD(["fpn"], weight=1.0)`` they are those of the rows that have both.

    Args:
        alpha: The weight of TCKD: a number or a schedule.
        beta: The weight of NCKD: a number or a schedule.
        temperature: The temperature T, above 0.
        other_classes: Whether a teacher is taken whose classes have other names, or another order:
            class k of the student learns from class k of the teacher, whatever they are called.
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Raises:
        ValueError: The temperature is not above 0.
    """

    def __init__(
        self,
        alpha: Weight = 1.0,
        beta: Weight = 0.25,
        temperature: float = 1.0,
        other_classes: bool = False,
        teacher: str | None = None,
    ) -> None:
        super().__init__(temperature, "roi_heads.box_predictor/0", other_classes)
        self.teacher = teacher
        self.weights = {"tckd": alpha, "nckd": beta}
        self.student_taps = {**self.student_taps, "regions": "regions", "input frame": "frame"}
        self.teacher_taps = {"maps": "backbone"}  # behind which the teacher stops

    def connect(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Refuse models without a box head, and a teacher of other classes."""
        for side, model in (("student", student), ("teacher", teacher)):
            if model is not None and "regions" not in landmarks(model):
                raise ValueError(
                    f"DetectorDKD compares what two box heads say of regions, and the {side} "
                    f"{type(model).__name__} has no box head (roi_heads). Take two Faster R-CNNs; "
                    "for classifiers there is DKD, for other detectors a method on maps, such as "
                    "CWD."
                )
        super().connect(student, teacher)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The parts ``tckd`` and ``nckd``: the losses of a region's own class and of the others."""
        labels = self._labels(step)
        tckd, nckd = decoupled(*self.logits_of_both(step), labels, self.temperature)
        return {"tckd": tckd, "nckd": nckd}

    @staticmethod
    def _labels(step: Step) -> Tensor:
        """The true class of each of the student's regions, (R,), 0 for the background."""
        if not isinstance(step.targets, list):
            raise TypeError(
                "DetectorDKD needs boxes, by which regions have labels: targets with `boxes` and "
                f"`labels` for each image, and the batch has {type(step.targets).__name__}."
            )
        heads = step.student.model.get_submodule("roi_heads")
        return region_labels(heads, step.student.features["regions"], step.targets)

    def picture(self, step: Step) -> OverImages:
        """The regions that are of an object: by the truth, by the teacher, and by the student."""
        boxes: list[Tensor] = step.student.features["regions"]
        student, teacher = self.logits_of_both(step)
        labels = {
            "by the truth": self._labels(step),
            "by the teacher": teacher.argmax(dim=1),
            "by the student": student.argmax(dim=1),
        }
        return OverImages(
            "The student's regions that are of an object, in the colour of its class: by the true "
            "boxes, by what the teacher's box head says of the same regions in the teacher's maps, "
            "and by the student's own. The student learns what the teacher's says.",
            {title: of_objects(boxes, of_regions) for title, of_regions in labels.items()},
        )

    def logits_of_both(self, step: Step) -> tuple[Tensor, Tensor]:
        """What both box heads say of the student's regions, (R, K + 1) each, in float32."""
        seen = step.student.features
        heads, maps = step.taught.model.get_submodule("roi_heads"), step.taught.features["maps"]
        sizes = seen["input frame"].image_sizes
        teacher = class_logits(heads, maps, seen["regions"], sizes)
        return seen["logits"].float(), teacher.float()


def decoupled(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD.

    Args:
        student: The student's logits z, (B, K), K above 1, of B images or regions.
        teacher: The teacher's logits v, (B, K).
        labels: The true classes y, (B,).
        temperature: The temperature T.

    Returns:
        The two losses, scalars, with their factors T^2; 0 where there are no regions.
    """
    tckd, nckd = (
        temperature**2 * F.kl_div(q, p, reduction="sum", log_target=True) / max(1, len(labels))
        for q, p in zip(
            divided(student, labels, temperature),
            divided(teacher, labels, temperature),
            strict=True,
        )
    )
    return tckd, nckd


def divided(logits: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Logarithms of (p_y, 1 - p_y), (B, 2), and of p^, (B, K - 1), of logits (B, K)."""
    log_p = F.log_softmax(logits.float() / temperature, dim=1)
    rest = log_p.gather(1, _other_classes(labels, logits.shape[1]))
    log_rest = rest.logsumexp(dim=1, keepdim=True)
    return torch.cat([log_p.gather(1, labels[:, None]), log_rest], dim=1), rest - log_rest


def _other_classes(labels: Tensor, count: int) -> Tensor:
    """The classes that are not the label's, (B, K - 1), in their order."""
    classes = torch.arange(count - 1, device=labels.device)
    return classes + (classes >= labels[:, None])
