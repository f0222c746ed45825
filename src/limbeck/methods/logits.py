"""What the methods that compare the logits of two models have in common."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from limbeck.losses import logits_of
from limbeck.methods.base import Method, Side, Step, class_difference
from limbeck.methods.pictures import Matrices, Matrix
from limbeck.ranges import POSITIVE, refuse_outside

MOST_DRAWN = 20  # images of a batch
ROUNDING = 1e-6  # differences up to this share of the values themselves are no variation


class LogitMethod(Method):
    """A method that compares the logits (B, K) of the student and of the teacher.

    Args:
        temperature: The temperature by which logits are divided, above 0.
        logits: The place of the logits (B, K) in both models. An empty string: their own output,
            or what it holds as ``logits`` where it is a mapping, as of Hugging Face's classifiers.
        other_classes: Whether a teacher is taken whose classes have other names, or another order:
            class k of the student learns from class k of the teacher, whatever they are called.
        standardise: Whether the logits of both are standardised in each image first.

    Raises:
        ValueError: The temperature is not above 0.
    """

    def __init__(
        self, temperature: float, logits: str, other_classes: bool, standardise: bool = False
    ) -> None:
        super().__init__()
        refuse_outside({"temperature": POSITIVE}, {"temperature": temperature})
        self.temperature = temperature
        self.standardise = standardise
        self.student_taps = {"logits": logits}
        self.teacher_taps = {"logits": logits}
        self.compares_classes = not other_classes

    def connect(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Refuse a teacher whose named classes are others than those that the student names."""
        ours = getattr(student, "classes", None)
        if self.compares_classes and isinstance(ours, list | tuple) and ours:
            difference = class_difference(teacher, ours)
            if difference is not None:
                raise ValueError(
                    f"{self._name}: the teacher's classes are not the student's: {difference} Both "
                    "need the same classes in the same order. Give such a teacher, or set "
                    "other_classes to true to take them as they are."
                )

    def setup(self, step: Step) -> None:
        """Refuse a pair without logits, whose class counts differ, or with too few classes."""
        student, teacher = self.logits_of_both(step)
        if student.shape != teacher.shape:
            raise ValueError(
                f"{self._name} compares logits, and the student's have the shape "
                f"{tuple(student.shape)}, the teacher's {tuple(teacher.shape)}. Both need the same "
                "classes in the same order: give a teacher of the student's classes, or leave "
                f"{self._name} out."
            )
        fewest = 3 if self.standardise else 2  # two standardised logits are always the same
        if student.shape[1] < fewest:
            how = f"{self._name} on standardised logits" if self.standardise else self._name
            raise ValueError(
                f"{how} needs {fewest} classes or more, and the logits {tuple(student.shape)} "
                f"have {student.shape[1]}: there is nothing to learn from them. Leave it out."
            )

    def logits_of_both(self, step: Step) -> tuple[Tensor, Tensor]:
        """The logits that are compared, of the student and the teacher, (B, K), in float32."""
        student = self._logits("student", step.student).float()
        teacher = self._logits("teacher", step.taught).float()
        if self.standardise:
            return standardised_logits(student), standardised_logits(teacher)
        return student, teacher

    def _logits(self, name: str, side: Side) -> Tensor:
        """The logits (B, K) of one side, also where a model returns a mapping that holds them."""
        found = side.features["logits"]
        logits = logits_of(found)
        if logits is None:
            shape = f" {tuple(found.shape)}" if isinstance(found, Tensor) else ""
            raise ValueError(
                f"{self._name} compares the logits (B, K) of classifiers, and the {name}, a "
                f"{type(side.model).__name__}, gives a {type(found).__name__}{shape}. Set "
                f"{self._name}'s argument logits to the place of the logits in both models; for "
                "detectors, give a method that compares features, for two-stage ones DetectorDKD, "
                "or for transformers QueryKD."
            )
        return logits

    @property
    def _name(self) -> str:
        return type(self).__name__


def images_by_classes(
    caption: str, values: str, of_models: Mapping[str, Tensor], classes: Tensor
) -> Matrices:
    """The first images of a batch, and what models say of each class.

    Args:
        caption: What is seen, in sentences.
        values: What a value is.
        of_models: By the title of each matrix, the values from -1 to 1, (B, K).
        classes: The class of each image that has a dot, (B,).

    Returns:
        The picture.
    """
    drawn = classes[:MOST_DRAWN]
    dots = torch.stack([torch.arange(len(drawn), device=drawn.device), drawn], dim=1)
    matrices = {title: Matrix(each[:MOST_DRAWN], dots) for title, each in of_models.items()}
    return Matrices(caption, "image", "class", values, matrices)


def standardised_logits(logits: Tensor) -> Tensor:
    """Logits with a mean of 0 and a standard deviation of 1 in each image.

    Sun, Ren, Li, Wang, Cao: Logit Standardization in Knowledge Distillation. CVPR 2024,
    arXiv:2403.01427:

        Z(x) = (x - mean x) / (std x + 1e-7)

    with the unbiased standard deviation over the K classes. The student then has to match the
    order and the relations of the teacher's logits, and not how large these are.

    Args:
        logits: The logits, (B, K).

    Returns:
        The standardised logits, (B, K), in float32. The logits of an image whose K values are all
        the same become 0 and have no gradient (the 1e-7 makes the original's 1e5 there).
    """
    logits = logits.float()
    deviation, mean = torch.std_mean(logits, dim=1, keepdim=True)  # (B, 1)
    constant = deviation <= ROUNDING * logits.abs().amax(dim=1, keepdim=True)
    scale = deviation.masked_fill(constant, 1.0) + 1e-7
    return ((logits - mean) / scale).masked_fill(constant, 0.0)
