"""Distillation of a transformer detector by its queries.

After Chang, Wang, Xu, Chen, Yang, Zhao: DETRDistill: A Universal Knowledge Distillation Framework
for DETR-families. ICCV 2023, arXiv:2211.10156, where the student's predictions are matched with the
teacher's as DETR matches them with the truth. Query q of the teacher says that class k is there
with the probability p_qk, and where, with a box b_q; it is sure of it by c_q = max_k p_qk. The
student's query r says p'_rk and b'_r. Where it says something else than the teacher's, it costs

    L(q, r) = lambda_class D(p_q || p'_r) + lambda_l1 |b_q - b'_r|_1
              + lambda_giou (1 - GIoU(b_q, b'_r)),

with D the sum over classes of the divergences of two Bernoulli distributions. Queries are matched
one to one, so that what is learnt from is what the teacher is sure of:

    sigma = argmin sum_q c_q (L(q, sigma(q)) - max L),

and each part of the loss is its mean over the pairs, weighted by c_q:

    class = sum_q c_q D(p_q || p'_sigma(q)) / sum_q c_q,   l1 and giou alike.

Where the teacher has no more queries than the student, max L, the largest cost in the image,
changes nothing, and the student's other queries learn nothing here. Where it has more, max L has
the queries left over of which it is least sure.

The authors also distil at every layer of the decoder, features weighted by queries, and the
assignment of queries. Here it is the last layer; for features take a method of features beside it.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert, generalized_box_iou_loss

from limbeck.landmarks import landmarks
from limbeck.methods.base import Method, Step
from limbeck.methods.pictures import OverImages
from limbeck.models.detection.parts.overlaps import giou
from limbeck.ranges import NOT_NEGATIVE, refuse_outside
from limbeck.schedules import Weight

SURE = 0.5  # of the teacher's surest query: how sure it is of those that are drawn
PLACES = {"logits": "query_logits", "boxes": "query_boxes"}


class QueryKD(Method):
    """Distillation between two transformer detectors, of whatever families and numbers of queries.

    It needs no labels. Features are left to a method of features, such as
    ``FitNet(["maps"])`` or ``PKD(["P3", "P4", "P5"])``.

    Args:
        classes: The weight of the part ``class``: a number or a schedule.
        l1: The weight of the part ``l1``, of boxes in shares of the frame: a number or a schedule.
        giou: The weight of the part ``giou``: a number or a schedule.
        costs: The weights lambda of the three parts in the matching, in the same order. Default:
            those with which DETRs match predictions and truth.
        other_classes: Whether a teacher is taken whose classes have other names, or another order:
            class k of the student learns from class k of the teacher, whatever they are called.
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Raises:
        ValueError: A cost is negative.
    """

    needs_targets = False

    def __init__(
        self,
        classes: Weight = 1.0,
        l1: Weight = 5.0,
        giou: Weight = 2.0,
        costs: tuple[float, float, float] = (2.0, 5.0, 2.0),
        other_classes: bool = False,
        teacher: str | None = None,
    ) -> None:
        super().__init__()
        self.teacher = teacher
        refuse_outside({"costs": NOT_NEGATIVE}, {"costs": costs}, "QueryKD's ")
        self.student_taps = PLACES
        self.teacher_taps = PLACES
        self.weights = {"class": classes, "l1": l1, "giou": giou}
        self.costs = costs
        self.compares_classes = not other_classes

    def connect(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Refuse a model that has no queries."""
        for side, model in (("student", student), ("teacher", teacher)):
            if model is not None and "query_boxes" not in landmarks(model):
                raise ValueError(
                    f"QueryKD compares the queries of two transformer detectors, and the {side}, a "
                    f"{type(model).__name__}, has none. Give a HuggingFaceDetector, or take a "
                    "method that compares features, such as FitNet or PKD."
                )

    def setup(self, step: Step) -> None:
        """Refuse a pair whose numbers of classes differ."""
        ours, theirs = (s.features["logits"].shape[-1] for s in (step.student, step.taught))
        if ours != theirs:
            raise ValueError(
                f"QueryKD: the student has {ours} classes, the teacher {theirs}. Both need the "
                "same classes in the same order: give such a teacher."
            )

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The three parts of the loss."""
        device = step.student.features["boxes"].device.type
        with torch.autocast(device, enabled=False):  # in half precision costs are too coarse
            return self._parts(step.student.features, step.taught.features)

    def _parts(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        logits, ours, theirs = (
            x.float() for x in (student["logits"], student["boxes"], teacher["boxes"])
        )
        probability = teacher["logits"].float().sigmoid()  # (B, Q, K)
        confidence = probability.amax(dim=-1)  # (B, Q)
        with torch.no_grad():
            image, of_teacher, of_student = self._pairs(logits, probability, ours, theirs)
        weight = confidence[image, of_teacher]
        ours, theirs = ours[image, of_student], theirs[image, of_teacher]
        parts = {
            "class": bernoulli_divergence(
                logits[image, of_student], probability[image, of_teacher]
            ),
            "l1": (ours - theirs).abs().sum(dim=-1),
            "giou": generalized_box_iou_loss(_corners(ours), _corners(theirs)),
        }
        return {name: (weight * part).sum() / weight.sum() for name, part in parts.items()}

    def _pairs(
        self, logits: Tensor, probability: Tensor, ours: Tensor, theirs: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The image, the teacher's query and the student's of each pair, (P,) each."""
        costs = self._costs(logits, probability, ours, theirs)
        costs = costs - costs.amax(dim=(1, 2), keepdim=True)
        return matched(probability.amax(dim=-1)[..., None] * costs)

    def picture(self, step: Step) -> OverImages:
        """The queries of which the teacher is surest, and those that learn from them."""
        student, teacher = step.student.features, step.taught.features
        logits, ours, theirs = (
            x.float() for x in (student["logits"], student["boxes"], teacher["boxes"])
        )
        probability = teacher["logits"].float().sigmoid()
        image, of_teacher, of_student = self._pairs(logits, probability, ours, theirs)
        confidence, label = probability.max(dim=-1)  # (B, Q)
        sure = (confidence >= SURE * confidence.amax(dim=1, keepdim=True))[image, of_teacher]
        height, width = step.frame.size
        columns = {}
        for title, boxes, classes, query in (
            ("the teacher's surest queries", theirs, label, of_teacher),
            ("the student's that learn from them", ours, logits.argmax(dim=-1), of_student),
        ):
            corners = _corners(boxes) * boxes.new_tensor([width, height] * 2)
            chosen = [(i, query[sure & (image == i)]) for i in range(len(boxes))]
            columns[title] = [
                {"boxes": corners[i, q], "labels": classes[i, q] + 1} for i, q in chosen
            ]
        return OverImages(
            "The boxes of those queries of which the teacher is at least half as sure as of its "
            "surest one, and of the student's queries that are matched with them one to one and "
            "learn from them. The colour is the class that each finds most probable.",
            columns,
        )

    def _costs(self, logits: Tensor, probability: Tensor, ours: Tensor, theirs: Tensor) -> Tensor:
        """The cost L of each pair, of the teacher's query and the student's, (B, Q, R)."""
        of_class, of_l1, of_giou = self.costs
        yes, no = F.logsigmoid(logits).mT, F.logsigmoid(-logits).mT  # (B, K, R)
        cross_entropy = -(probability @ yes + (1 - probability) @ no)
        entropy = entropy_of(probability)[..., None]
        apart = 1 - giou(_corners(theirs)[:, :, None], _corners(ours)[:, None])
        l1 = torch.cdist(theirs, ours, p=1)
        return of_class * (cross_entropy - entropy) + of_l1 * l1 + of_giou * apart


def matched(costs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Match the rows and the columns of matrices one to one, so that the sum of costs is least.

    Args:
        costs: The costs, (B, Q, R), of which min(Q, R) are chosen in each matrix.

    Returns:
        The matrix, the row and the column of each pair, int64 (B * min(Q, R),) each.
    """
    from scipy.optimize import linear_sum_assignment  # takes half a second to import

    finite = costs.nan_to_num(posinf=torch.finfo(costs.dtype).max / 1e6)
    found = [linear_sum_assignment(of_image) for of_image in finite.cpu().numpy()]
    rows = torch.tensor([row for rows, _ in found for row in rows], dtype=torch.int64)
    columns = torch.tensor([column for _, columns in found for column in columns])
    images = torch.arange(len(found)).repeat_interleave(min(costs.shape[1:]))
    together = torch.stack([images, rows, columns.to(torch.int64)]).to(costs.device)
    image, row, column = together
    return image, row, column


def bernoulli_divergence(logits: Tensor, probability: Tensor) -> Tensor:
    """The divergence D of Bernoulli distributions, summed over the classes.

    Args:
        logits: The student's logits, (..., K).
        probability: The teacher's probabilities p, (..., K).

    Returns:
        The divergence, (...).
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, probability, reduction="none")
    of_all: Tensor = cross_entropy.sum(dim=-1)
    return of_all - entropy_of(probability)


def entropy_of(probability: Tensor) -> Tensor:
    """The entropy of Bernoulli distributions (..., K), summed over the classes."""
    of_both: Tensor = torch.special.entr(probability) + torch.special.entr(1 - probability)
    return of_both.sum(dim=-1)


def _corners(boxes: Tensor) -> Tensor:
    corners: Tensor = box_convert(boxes, "cxcywh", "xyxy")
    return corners
