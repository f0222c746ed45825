"""HEAD: an assist beside a dense student's head, taught by a two-stage teacher."""

from typing import Any

import torch
from torch import Tensor, nn

from limbeck.methods.base import Method, Side, Step
from limbeck.methods.head.akd import AKD
from limbeck.methods.head.assist import ASSIST_PARTS, WIDTH, Assist, hidden_layers, new_assist
from limbeck.methods.head.ckd import CKD, Adapter
from limbeck.methods.head.mirror import Mirror
from limbeck.methods.head.places import (
    anchors_per_cell,
    dense_places,
    is_two_stage,
    mirrored_places,
    two_stage_places,
)
from limbeck.methods.head.regions import PROPOSALS, SAMPLES, regions
from limbeck.schedules import WarmUp, Weight

WARM_UP = WarmUp(2.0, 2000)


class HEAD(Method):
    """An assist on the student's pyramid, and what a two-stage teacher tells both heads.

    A two-stage student of a dense teacher gets a dense assist; regions are then its own, and what
    is said of them below has no part in it.

    Args:
        akd: weight of each part of assist distillation; none: there is no such part.
        ckd: weight of cross-architecture distillation; none: there is no such part. Without either
            the assist alone remains, which needs no teacher.
        assist: weight of the assist's own losses.
        adapter: of CKD, ``shared`` as released, or ``per_anchor`` as in the paper.
        transfer: the assist begins with the weights of the teacher's box head. Where it does not,
            and neither AKD nor CKD is on, the teacher may be any: it is other methods'.
        proposals: of the student, of each image, at most.
        samples: regions of each image, at most.
        box_head_channels: of the assist's hidden layers; none: the teacher's, 1024 where it is not
            looked at.
    """

    weights: dict[str, Weight]
    assist: Assist
    mirror: Mirror

    def __init__(
        self,
        akd: Weight | None = WARM_UP,
        ckd: Weight | None = WARM_UP,
        assist: Weight = 1.0,
        adapter: Adapter = "shared",
        transfer: bool = True,
        proposals: int = PROPOSALS,
        samples: int = SAMPLES,
        box_head_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.akd_weight = akd
        self.ckd_weight = ckd
        self.assist_weight = assist
        self.adapter = adapter
        self.transfer = transfer
        self.proposals = proposals
        self.samples = samples
        self.box_head_channels = box_head_channels
        self.akd: AKD | None = None
        self.ckd: CKD | None = None

    @property
    def distils(self) -> bool:
        """Whether the teacher is looked at in every step."""
        return self.akd_weight is not None or self.ckd_weight is not None

    @property
    def looks(self) -> bool:
        """Whether a teacher is looked at, at least for what the assist begins with."""
        return self.distils or self.transfer

    def connect(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Taps on the dense student and the teacher's pyramid, or the other way round."""
        self.mirrored = teacher is not None and is_two_stage(student)
        if self.mirrored and teacher is not None:
            if self.adapter == "per_anchor":
                raise ValueError("HEAD: regions of a two-stage student have no anchors; use shared")
            self.student_taps, self.teacher_taps = mirrored_places(student, teacher)
            return
        self.student_taps = dense_places("HEAD", student)
        if teacher is not None and self.looks:
            places = two_stage_places("HEAD", teacher)
            self.teacher_taps = places if self.distils else {}
        elif self.distils:
            raise ValueError(
                "HEAD needs a teacher for AKD and CKD, and the Distillation has none. For the "
                "assist alone switch both off: akd and ckd null."
            )

    def setup(self, step: Step) -> None:
        """The assist, as the teacher's box head where there is one, and the adapters."""
        self.weights = dict.fromkeys(ASSIST_PARTS, self.assist_weight)
        if self.mirrored:
            self._setup_mirror(step)
            return
        looked_at = step.teacher if self.looks else None
        teacher = None if looked_at is None else roi_heads(looked_at)
        width = self.box_head_channels
        if width is None:
            width = WIDTH if teacher is None else teacher.box_predictor.cls_score.in_features
        self.assist = new_assist(step.student, width)
        if teacher is not None and self.transfer:
            self._begin_as(teacher)
        if not self.distils:
            return
        pyramid: list[Tensor] = step.student.features["assist"]
        region = [pyramid[0].new_tensor([[0.0, 0.0, 64.0, 64.0]])]
        hidden = self.assist(pyramid, region)
        hints = teacher_layers(step, region)
        if self.akd_weight is not None:
            self.akd = AKD(hidden, hints)
            self.weights |= {f"akd.{i + 1}": self.akd_weight for i in range(len(hints))}
        if self.ckd_weight is not None:
            tower, anchors = step.student.features["ckd"][0], anchors_per_cell(step.student)
            self.ckd = CKD(tower.shape[1], hints[-1].shape[1], anchors, self.adapter)
            self.weights |= {"ckd": self.ckd_weight}

    def _setup_mirror(self, step: Step) -> None:
        akd, ckd = self.akd_weight, self.ckd_weight
        self.mirror = Mirror(step, akd is not None, ckd is not None, self.transfer)
        if akd is not None:
            self.weights |= {"akd.1": akd, "akd.2": akd}
        if ckd is not None:
            self.weights |= {"ckd": ckd}

    def _begin_as(self, teacher: Any) -> None:
        try:
            self.assist.begin_as(teacher)
        except ValueError as error:
            raise ValueError(
                f"the assist cannot begin as the teacher's box head: {error} Or begin afresh: "
                "transfer false."
            ) from None

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The assist's own losses, and what the teacher tells it (akd) and the dense head (ckd)."""
        losses: dict[str, Tensor]
        if self.mirrored:
            losses = self.mirror(step)
            return losses
        found = regions(step, self.proposals, self.samples)
        features = step.student.features
        hidden = self.assist(features["assist"], found.boxes)
        losses = self.assist.losses(hidden[-1], found)
        if self.distils:
            hints = teacher_layers(step, found.boxes)
            if self.akd is not None:
                losses |= self.akd(hidden, hints)
            if self.ckd is not None:
                losses["ckd"] = self.ckd(features["ckd"], found.positions, hints[-1])
        return losses

    def adapter_of(self, student_tap: str) -> nn.Module | None:
        """The adapter of CKD, or of the first layer of AKD."""
        if self.mirrored:
            return self.mirror.ckd if student_tap == "ckd" else None
        if student_tap == "ckd" and self.ckd is not None:
            return self.ckd.adapter
        return self.akd.adapters[0] if student_tap == "akd" and self.akd is not None else None


def roi_heads(side: Side) -> Any:
    """A two-stage detector's regional part, torchvision's ``RoIHeads``."""
    return side.model.get_submodule("roi_heads")


@torch.no_grad()
def teacher_layers(step: Step, boxes: list[Tensor]) -> list[Tensor]:
    """The teacher's hidden layers for the student's regions, by its own pooling, (R, T) each.

    Of the teacher nothing else runs but backbone and neck: not its RPN, nor its predictions.
    """
    heads = roi_heads(step.taught)
    sizes = list(step.student.features["frame"].image_sizes)
    pooled = heads.box_roi_pool(step.taught.features["akd"], boxes, sizes)
    return hidden_layers(heads.box_head, pooled)
