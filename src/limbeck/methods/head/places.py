"""Which pairs HEAD can make something of, and which of their places it reads."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.ssd import SSD

from limbeck.frame import Frame
from limbeck.landmarks import landmarks
from limbeck.methods.base import Side
from limbeck.models.detection.parts.distributions import DistributionCoder
from limbeck.models.detection.parts.heads import foreground
from limbeck.tap import Tap

NamedTaps = dict[str, Tap | str]


def dense_places(method: str, student: nn.Module) -> NamedTaps:
    """The taps on a dense student.

    Args:
        method: The name of the method, for errors.
        student: The student.

    Returns:
        The taps by what each is for: the pyramid that the assist reads, what proposals are made of,
        the anchors, the frame, and the classification tower that CKD compares.

    Raises:
        ValueError: The student lacks what an assist needs.
    """
    kind = type(student).__name__
    if isinstance(student, SSD):
        raise ValueError(
            f"{method}: the maps of the student {kind} have different widths, and an assist reads "
            "all of its levels with one head. Take a student with a feature pyramid: RetinaNet or "
            "FCOS."
        )
    if is_two_stage(student):
        raise ValueError(
            f"{method}: the student {kind} has a box head of its own, and no dense head that an "
            "assist could stand beside. Take a dense student: RetinaNet or FCOS."
        )
    if not isinstance(student, detection.RetinaNet | detection.FCOS):
        raise ValueError(
            f"{method}: the student {kind} has no dense head whose boxes are known to limbeck. "
            "Take a RetinaNet or FCOS, limbeck's or torchvision's."
        )
    if "fpn" not in landmarks(student):
        raise ValueError(
            f"{method}: the backbone of the student {kind} is no feature pyramid (torchvision's "
            "BackboneWithFPN), from which an assist reads."
        )
    return {
        "assist": "fpn",
        "proposals": Tap("head"),
        "anchors": "anchors",
        "frame": "frame",
        "ckd": "cls_tower",
    }


def two_stage_places(method: str, teacher: nn.Module) -> NamedTaps:
    """The tap on a two-stage teacher.

    Args:
        method: The name of the method, for errors.
        teacher: The teacher.

    Returns:
        The teacher's pyramid for AKD, after which the teacher stops.

    Raises:
        ValueError: The teacher has no box head over a pyramid.
    """
    kind = type(teacher).__name__
    if not is_two_stage(teacher):
        raise ValueError(
            f"{method}: the teacher {kind} has no box head (roi_heads) to look at the student's "
            "regions with. Take a Faster R-CNN; of two dense detectors, FitNet(['fpn']) is what "
            "remains of HEAD, and the assist alone: akd and ckd null, transfer false."
        )
    if "fpn" not in landmarks(teacher):
        raise ValueError(
            f"{method}: the backbone of the teacher {kind} is no feature pyramid (torchvision's "
            "BackboneWithFPN), as the student's is."
        )
    return {"akd": Tap("backbone")}


def is_two_stage(model: nn.Module) -> bool:
    """Whether a detector has a box head, as Faster R-CNN has."""
    return isinstance(getattr(model, "roi_heads", None), RoIHeads)


def mirrored_places(student: nn.Module, teacher: nn.Module) -> tuple[NamedTaps, NamedTaps]:
    """The taps on a two-stage student and on its dense teacher.

    Args:
        student: The student.
        teacher: The teacher.

    Returns:
        The taps on the student and those on the teacher, by what each is for.

    Raises:
        ValueError: One of them lacks what a dense assist needs.
    """
    distributes = isinstance(getattr(teacher, "box_coder", None), DistributionCoder)
    if not isinstance(teacher, detection.RetinaNet) or distributes:
        lack = "has a box head, too" if is_two_stage(teacher) else "is no RetinaNet"
        raise ValueError(
            f"HEAD: the student {type(student).__name__} has a box head, so its assist would be a "
            f"dense one, and the teacher {type(teacher).__name__} {lack}. Take a RetinaNet for a "
            "teacher or a dense student; of two Faster R-CNNs, FitNet(['fpn']) is what remains."
        )
    for side, model in (("student", student), ("teacher", teacher)):
        if "fpn" not in landmarks(model):
            raise ValueError(
                f"HEAD: the backbone of the {side} {type(model).__name__} is no feature pyramid "
                "(torchvision's BackboneWithFPN)."
            )
    ours: NamedTaps = {
        "assist": "fpn",
        "ckd": Tap("roi_heads.box_head"),
        "regions": "regions",
        "frame": "frame",
    }
    theirs: NamedTaps = {"akd": "cls_tower", "box_tower": "box_tower", "anchors": "anchors"}
    return ours, theirs


def pyramid_levels(pyramid: Sequence[Tensor], frame: Frame) -> tuple[int, int]:
    """The first and the last level of a pyramid.

    Args:
        pyramid: The map of each level, (B, C, H, W), finest first.
        frame: The frame of the same forward pass.

    Returns:
        The first and the last level. Level k has a stride of 2**k pixels.

    Raises:
        ValueError: The rows are not halved from level to level.
    """
    heights = [level.shape[-2] for level in pyramid]
    # An odd height may be halved to either side of the half, and a single row stays one.
    if any(abs(2 * after - before) > 1 for before, after in pairwise(heights)):
        raise ValueError(
            f"a pyramid of the pair has levels of {heights} rows; expected each half as many as "
            "the one before."
        )
    first = round(math.log2(frame.size[0] / heights[0]))
    return first, first + len(heights) - 1


def anchors_per_cell(student: Side) -> int:
    """How many anchors each cell of the dense head has."""
    finest: Tensor = student.features["assist"][0]
    return len(student.features["anchors"][0][0]) // finest[0, 0].numel()


def class_count(student: nn.Module, features: Mapping[str, Any]) -> int:
    """How many foreground classes the dense head tells apart."""
    return foreground(student, features["proposals"]["cls_logits"]).shape[-1]
