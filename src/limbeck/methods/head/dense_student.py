"""HEAD as published: a dense student of a two-stage teacher."""

from typing import Any

import torch
from torch import Tensor, nn

from limbeck.methods.base import Side, Step
from limbeck.methods.errors import NoTeacherError
from limbeck.methods.head.akd import AKD
from limbeck.methods.head.assist import ASSIST_PARTS, WIDTH, Assist, hidden_layers, new_assist
from limbeck.methods.head.ckd import CKD
from limbeck.methods.head.form import Form, Settings
from limbeck.methods.head.picture import assist_picture
from limbeck.methods.head.places import anchors_per_cell, dense_places, two_stage_places
from limbeck.methods.head.regions import regions
from limbeck.methods.pictures import OverImages


class DenseStudent(Form):
    """An assist with a box head on a dense student's pyramid.

    Args:
        settings: The arguments of HEAD.
        student: The dense student.
        teacher: The two-stage teacher; any other one, or None, where it is not looked at.

    Raises:
        ValueError: The pair lacks what the parts that are on need.
    """

    def __init__(self, settings: Settings, student: nn.Module, teacher: nn.Module | None) -> None:
        self.settings = settings
        self.student_taps = dense_places("HEAD", student)
        self.teacher_taps = {}
        # Without AKD and CKD a teacher is looked at for what the assist begins with, if at all.
        self.looks = teacher is not None and (settings.distils or settings.transfer)
        if teacher is not None and self.looks:
            places = two_stage_places("HEAD", teacher)
            self.teacher_taps = places if settings.distils else {}
        elif settings.distils:
            raise NoTeacherError(
                "HEAD needs a teacher for AKD and CKD",
                "switch both off, which leaves the assist: akd and ckd null",
            )
        self.akd: AKD | None = None
        self.ckd: CKD | None = None

    def setup(self, step: Step) -> None:
        """Make the assist, as the teacher's box head where there is one, and the adapters."""
        teacher = roi_heads(step.taught) if self.looks else None
        self.weights = dict.fromkeys(ASSIST_PARTS, self.settings.assist)
        self.assist = self._new_assist(step.student, teacher)
        self.modules = {"assist": self.assist}
        if not self.settings.distils:
            return
        pyramid: list[Tensor] = step.student.features["assist"]
        region = [pyramid[0].new_tensor([[0.0, 0.0, 64.0, 64.0]])]
        hidden = self.assist(pyramid, region)
        hints = teacher_layers(step, region)
        if self.settings.akd is not None:
            self.modules["akd"] = self.akd = AKD(hidden, hints)
            self.weights |= {f"akd.{i + 1}": self.settings.akd for i in range(len(hints))}
        if self.settings.ckd is not None:
            channels, anchors = (
                step.student.features["ckd"][0].shape[1],
                anchors_per_cell(step.student),
            )
            self.ckd = CKD(channels, hints[-1].shape[1], anchors, self.settings.adapter)
            self.modules["ckd"] = self.ckd
            self.weights |= {"ckd": self.settings.ckd}

    def _new_assist(self, student: Side, teacher: Any) -> Assist:
        width = self.settings.box_head_channels
        if width is None:
            width = WIDTH if teacher is None else teacher.box_predictor.cls_score.in_features
        assist = new_assist(student, width)
        if teacher is None or not self.settings.transfer:
            return assist
        try:
            assist.begin_as(teacher)
        except ValueError as error:
            raise ValueError(
                f"the assist cannot begin as the teacher's box head: {error} Or begin afresh: "
                "transfer false."
            ) from None
        return assist

    def losses(self, step: Step) -> dict[str, Tensor]:
        """The assist's own losses, and what the teacher tells it (akd) and the dense head (ckd)."""
        found = regions(step, self.settings.proposals, self.settings.samples)
        features = step.student.features
        hidden = self.assist(features["assist"], found.boxes)
        losses = self.assist.losses(hidden[-1], found)
        if self.settings.distils:
            hints = teacher_layers(step, found.boxes)
            if self.akd is not None:
                losses |= self.akd(hidden, hints)
            if self.ckd is not None:
                losses["ckd"] = self.ckd(features["ckd"], found.positions, hints[-1])
        return losses

    def picture(self, step: Step) -> OverImages:
        """The regions of the assist, and the cells of the dense head that CKD teaches."""
        found = regions(step, self.settings.proposals, self.settings.samples)
        return assist_picture(step, found, taught=self.ckd is not None)

    def adapter_of(self, student_tap: str) -> nn.Module | None:
        """The adapter of CKD, or of the first layer of AKD."""
        if student_tap == "ckd" and self.ckd is not None:
            return self.ckd.adapter
        return self.akd.adapters[0] if student_tap == "akd" and self.akd is not None else None


def roi_heads(side: Side) -> Any:
    """The regional part of a two-stage detector, torchvision's ``RoIHeads``."""
    return side.model.get_submodule("roi_heads")


@torch.no_grad()
def teacher_layers(step: Step, boxes: list[Tensor]) -> list[Tensor]:
    """The teacher's hidden layers for the student's regions, pooled from its own pyramid.

    Of the teacher nothing else runs but its backbone and neck: not its RPN, nor its predictions.

    Args:
        step: One step of the pair.
        boxes: The regions of each image, (R_i, 4), xyxy, pixels.

    Returns:
        The hidden layers t_1, t_2, ..., (R, T) each.
    """
    heads = roi_heads(step.taught)
    sizes = list(step.student.features["frame"].image_sizes)
    pooled = heads.box_roi_pool(step.taught.features["akd"], boxes, sizes)
    return hidden_layers(heads.box_head, pooled)
