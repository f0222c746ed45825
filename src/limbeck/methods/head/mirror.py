"""HEAD the other way round: a two-stage student of a dense teacher.

The assist is again a head of the teacher's kind on the student's pyramid: dense, on the levels that
both pyramids have. AKD compares its towers with the teacher's, level by level; CKD teaches the
student's own region features what the teacher's tower has in the cell at a region's centre, on the
level whose anchors are of the region's size. The paper has this idea, and no numbers for it.
"""

from typing import Any

import torch
from torch import Tensor, nn

from limbeck.methods.base import Step
from limbeck.methods.head.akd import squared_error
from limbeck.methods.head.assist import ASSIST_PARTS, trained_copy
from limbeck.methods.head.ckd import cells
from limbeck.methods.head.fcos import Towers
from limbeck.methods.head.form import Form, Settings
from limbeck.methods.head.picture import LEGEND, cells_over_images, regions_picture
from limbeck.methods.head.places import mirrored_places, pyramid_levels
from limbeck.methods.head.regions import labelled
from limbeck.methods.pictures import OverImages
from limbeck.models.detection.parts.dense_losses import LOSSES, losses_of_images
from limbeck.models.detection.parts.heads import RetinaNetHead, flat, foreground, unused_columns
from limbeck.models.detection.parts.matcher import match_anchors
from limbeck.models.detection.parts.roi_heads import region_labels
from limbeck.models.detection.parts.selection import written
from limbeck.models.precision import in_full_precision

ANCHOR = 4  # strides, the side of the smallest anchor of a RetinaNet's level


class TwoStageStudent(Form):
    """A dense assist on a two-stage student's pyramid.

    Args:
        settings: The arguments of HEAD.
        student: The two-stage student.
        teacher: The dense teacher.

    Raises:
        ValueError: The pair lacks what a dense assist needs, or an adapter for each anchor is
            wanted, which regions of a two-stage student do not have.
    """

    def __init__(self, settings: Settings, student: nn.Module, teacher: nn.Module) -> None:
        if settings.adapter == "per_anchor":
            raise ValueError("HEAD: regions of a two-stage student have no anchors; use shared")
        self.settings = settings
        self.student_taps, self.teacher_taps = mirrored_places(student, teacher)

    def setup(self, step: Step) -> None:
        """Make the assist, as the teacher's head where it is to begin so, and the adapters."""
        akd, ckd = self.settings.akd, self.settings.ckd
        self.mirror = Mirror(step, akd is not None, ckd is not None, self.settings.transfer)
        self.modules = {"mirror": self.mirror}
        self.weights = dict.fromkeys(ASSIST_PARTS, self.settings.assist)
        if akd is not None:
            self.weights |= {"akd.1": akd, "akd.2": akd}
        if ckd is not None:
            self.weights |= {"ckd": ckd}

    def losses(self, step: Step) -> dict[str, Tensor]:
        """The assist's own losses, and what the teacher tells it (akd) and the box head (ckd)."""
        losses: dict[str, Tensor] = self.mirror(step)
        return losses

    def picture(self, step: Step) -> OverImages:
        """The student's own regions, and the cells of the teacher's tower that CKD reads."""
        student, teacher = step.student.features, step.taught.features
        boxes: list[Tensor] = student["regions"]
        heads = step.student.model.get_submodule("roi_heads")
        labels = region_labels(heads, boxes, labelled(step))
        caption = (
            "The regions that the student's own head looks at when it detects; in training it "
            "draws some of such regions, with the objects among them. "
        )
        cells_read = {}
        if self.settings.ckd is not None:
            positions = centres(boxes, teacher["akd"], self.mirror.finest)
            caption += "CKD teaches it what the teacher's tower has in the cells at their centres. "
            cells_read = {
                "cells that CKD reads": cells_over_images(
                    teacher["akd"], positions, student["frame"]
                )
            }
        return regions_picture(caption + LEGEND, boxes, labels, cells_read)

    def adapter_of(self, student_tap: str) -> nn.Module | None:
        """The adapter of CKD."""
        return self.mirror.ckd if student_tap == "ckd" else None


class Mirror(nn.Module):
    """The modules of HEAD for a two-stage student of a RetinaNet.

    Args:
        step: The dry pass.
        akd: Whether there is assist distillation.
        ckd: Whether there is cross-architecture distillation.
        transfer: Whether the assist begins with the weights of the teacher's head.

    Raises:
        ValueError: The pyramids have no level in common, or the teacher's head does not fit the
            student's pyramid or classes.
    """

    def __init__(self, step: Step, akd: bool, ckd: bool, transfer: bool) -> None:
        super().__init__()
        student, teacher = step.student.features, step.taught.features
        ours = pyramid_levels(student["assist"], student["frame"])
        theirs = pyramid_levels(teacher["akd"], student["frame"])
        first, last = max(ours[0], theirs[0]), min(ours[1], theirs[1])
        if first > last:
            raise ValueError(
                f"the student's pyramid has P{ours[0]} to P{ours[1]}, the teacher's "
                f"P{theirs[0]} to P{theirs[1]}: no level in common for a dense assist."
            )
        self.student_levels = slice(first - ours[0], last - ours[0] + 1)
        self.teacher_levels = slice(first - theirs[0], last - theirs[0] + 1)
        self.finest = theirs[0]
        channels, width = (f[0].shape[1] for f in (student["assist"], teacher["akd"]))
        self.assist = _assist(step.taught.model, step.student.model, channels, transfer)
        both = channels, width
        self.akd = nn.ModuleList(Towers(*both) for _ in range(2)) if akd else None
        self.ckd = nn.Linear(student["ckd"].shape[1], width) if ckd else None

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The unweighted losses of one batch by part."""
        student, teacher = step.student.features, step.taught.features
        towers, outputs = self._dense(student["assist"][self.student_levels])
        losses = self._losses(step, outputs)
        if self.akd is not None:
            taught = teacher["akd"], teacher["box_tower"]
            for i, (module, ours, theirs) in enumerate(zip(self.akd, towers, taught, strict=True)):
                losses[f"akd.{i + 1}"] = module(ours, theirs[self.teacher_levels])
        if self.ckd is not None:
            positions = centres(student["regions"], teacher["akd"], self.finest)
            losses["ckd"] = squared_error(
                self.ckd(student["ckd"]), cells(teacher["akd"], positions)
            )
        return losses

    def _dense(self, pyramid: list[Tensor]) -> tuple[tuple[list[Tensor], ...], dict[str, Tensor]]:
        """Both towers, level by level, and the outputs (B, N, columns or 4)."""
        classes, boxes = self.assist.classification_head, self.assist.regression_head
        towers = tuple([branch.conv(level) for level in pyramid] for branch in (classes, boxes))
        columns = classes.num_classes
        logits = [flat(classes.cls_logits(level), columns) for level in towers[0]]
        deltas = [flat(boxes.bbox_reg(level), 4) for level in towers[1]]
        outputs = {"cls_logits": torch.cat(logits, 1), "bbox_regression": torch.cat(deltas, 1)}
        return towers, {name: in_full_precision(output) for name, output in outputs.items()}

    def _losses(self, step: Step, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The assist's losses, a RetinaNet's, divided by the positive anchors of the batch."""
        teacher: Any = step.taught.model
        levels = [of_image[self.teacher_levels] for of_image in step.taught.features["anchors"]]
        anchors = [torch.cat(of_image).float() for of_image in levels]
        targets = labelled(step)
        pairs = zip(targets, anchors, strict=True)
        matched = [
            match_anchors(teacher.proposal_matcher, target, boxes) for target, boxes in pairs
        ]
        outputs = outputs | {"cls_logits": foreground(teacher, outputs["cls_logits"])}
        losses, counts = losses_of_images(targets, outputs, anchors, matched, teacher.box_coder)
        positives = sum(max(count, 1) for count in counts)
        sums = [torch.stack(losses[name]).sum() / positives for name in LOSSES]
        return dict(zip(ASSIST_PARTS, sums, strict=True))


def _assist(teacher: nn.Module, student: Any, channels: int, transfer: bool) -> Any:
    """A head of the teacher's kind for the student's classes, with its weights or afresh."""
    head: Any = teacher.head
    tower, scores = head.classification_head.conv, head.classification_head
    unused = unused_columns(teacher)
    classes = student.roi_heads.box_predictor.cls_score.out_features - 1
    if not transfer:
        return RetinaNetHead(channels, scores.num_anchors, classes + unused, len(tower))
    ours = channels, classes
    theirs = next(tower.parameters()).shape[1], scores.num_classes - unused
    if ours != theirs:
        raise ValueError(
            f"the assist cannot begin as the teacher's head: the student has {channels} channels "
            f"in its pyramid and {classes} classes, the teacher {theirs[0]} and {theirs[1]}. Give "
            "both the same, or begin afresh: transfer false."
        )
    return trained_copy(head)


def centres(boxes: list[Tensor], maps: list[Tensor], finest: int) -> Tensor:
    """The cells at the centres of regions, on the levels whose anchors are of their size.

    Args:
        boxes: The regions of each image, (R_i, 4), xyxy, pixels.
        maps: The map of each level, (B, C, H, W), finest first.
        finest: The level of the first map. Level k has a stride of 2**k pixels.

    Returns:
        The image, the index of the map, y and x of each region's cell, (R, 4), int64.
    """
    image = torch.cat([torch.full_like(b[:, 0], i) for i, b in enumerate(boxes)]).long()
    box = torch.cat(boxes).detach().float()
    side = (box[:, 2:] - box[:, :2]).clamp(min=1).prod(1).sqrt()
    level = (side / (ANCHOR * 2**finest)).log2().floor().long().clamp(0, len(maps) - 1)
    stride = written([2 ** (finest + i) for i in range(len(maps))], level)[level]
    x, y = ((box[:, :2] + box[:, 2:]) / 2 // stride[:, None]).long().T
    height, width = (written([m.shape[axis] for m in maps], level)[level] for axis in (2, 3))
    return torch.stack([image, level, y.minimum(height - 1), x.minimum(width - 1)], dim=1)
