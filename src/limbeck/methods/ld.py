"""Localization distillation.

Zheng, Ye, Wang, Ren, Zuo, Hou, Cheng: Localization Distillation for Dense Object Detection. CVPR
2022, arXiv:2102.12252, as published in HikariTJU/LD. Where each side of a box is a distribution
over distances, as in GFL, where a box lies can be taught as classes are. With the logits z of n
bins or classes, the temperature t, p = softmax(z_teacher / t) and q = softmax(z_student / t),

    KD(t) = t^2 / n * sum over the n of p log(p / q)

**Main.** At the student's positives, with v_a the best score of the student at the anchor a,

    main           = 1 / 4 * sum over positives of v_a * sum over the 4 sides of KD(10)
    classification = sum over levels of the mean over their positives of KD(2) of the class logits

**Region.** Valuable are also the anchors near an object. With theta the threshold of ATSS for an
object (:mod:`limbeck.models.detection.parts.atss`), they are those with

    theta / 4 <= D(a, box) < theta

and g_a is the greatest IoU of the anchor with the objects for which it is one:

    region = 1 / 16 * sum over valuable anchors of g_a * sum over the 4 sides of KD(10)

The paper's D is DIoU = IoU - d^2 / c^2, with d the distance of the centres and c the diagonal of
the smallest box around both. The published code divides the intersection by the anchor's area in
place of the union's, and its rows are of that ``region_by``.

The published main and region are sums, which grow with boxes and images: the authors warn of more
than 3 images a process, and train with learning rates of 0.0025 to 0.00375. ``divided`` divides
both by the sum of v_a, 1 at least, as GFL does with its loss of distributions. An image without
boxes teaches nothing (the original fails there). The original's imitation of maps is left out: any
method on maps can stand beside LD.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.methods.base import Method, Step
from limbeck.methods.pictures import OverImages
from limbeck.models.detection.parts.atss import ATSSMatcher, objects_of
from limbeck.models.detection.parts.distributions import DistributionCoder, of_sides
from limbeck.models.detection.parts.matcher import IGNORED
from limbeck.models.detection.parts.overlaps import iou
from limbeck.models.detection.parts.selection import indices_of_rows
from limbeck.ranges import POSITIVE, refuse_outside
from limbeck.schedules import Weight
from limbeck.tap import Tap

RegionBy = Literal["published", "diou"]

_BLOCK = 2**22  # pairs of a box and an anchor at a time, with some 20 numbers each


class LD(Method):
    """Localization distillation between two GFLs: where boxes lie is taught as a distribution.

    The defaults are the published full form. ``region`` and ``classification`` None are the
    published "LD main".

    Args:
        main: The weight of the distributions at positives: a number or a schedule. None: that part
            is left out.
        region: The weight of the distributions in the valuable region. None: it is left out.
        classification: The weight of the classes at positives. None: it is left out, and the
            teacher may have other classes.
        temperature: The temperature of the distributions, above 0.
        class_temperature: The temperature of the classes, above 0.
        region_by: What the valuable region is chosen by: ``published``, the published code's
            measure, or ``diou``, the paper's.
        divided: Whether ``main`` and ``region`` are divided by the sum of the positives' scores, 1
            at least. Otherwise they grow with boxes and images, as published.
        other_classes: Whether a teacher is taken whose classes have other names, or another order:
            class k of the student learns from class k of the teacher, whatever they are called.
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Raises:
        ValueError: A temperature is not above 0, ``region_by`` is neither of the two, or there
            is no part.
    """

    def __init__(
        self,
        main: Weight | None = 0.25,
        region: Weight | None = 0.25,
        classification: Weight | None = 10.0,
        temperature: float = 10.0,
        class_temperature: float = 2.0,
        region_by: RegionBy = "published",
        divided: bool = False,
        other_classes: bool = False,
        teacher: str | None = None,
    ) -> None:
        super().__init__()
        self.teacher = teacher
        temperatures = {"temperature": temperature, "class_temperature": class_temperature}
        refuse_outside(dict.fromkeys(temperatures, POSITIVE), temperatures, "LD's ")
        if region_by not in get_args(RegionBy):
            raise ValueError(
                f"LD's region_by is {region_by!r}; expected {' or '.join(get_args(RegionBy))}"
            )
        given = {"main": main, "region": region, "classification": classification}
        self.weights = {part: weight for part, weight in given.items() if weight is not None}
        if not self.weights:
            raise ValueError(
                "LD: main, region and classification are None, so that nothing is distilled. Give "
                "one of them a weight."
            )
        self.temperature = temperature
        self.class_temperature = class_temperature
        self.region_by = region_by
        self.divided = divided
        self.compares_classes = classification is not None and not other_classes
        self.student_taps = {
            "head": Tap("head"),
            "anchors": "anchors",
            "input frame": "frame",
            "maps": "maps",
        }
        self.teacher_taps = {"head": Tap("head")}

    def connect(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Refuse models whose boxes are no distributions."""
        for side, model in (("student", student), ("teacher", teacher)):
            distributes = isinstance(getattr(model, "box_coder", None), DistributionCoder)
            if model is not None and not distributes:
                raise ValueError(
                    f"LD compares boxes that are distributions, and the {side} is a "
                    f"{type(model).__name__}. Give two detectors of limbeck.models.GFL; for "
                    "others, give CrossKD, or a method that compares maps."
                )

    def setup(self, step: Step) -> None:
        """Refuse a pair whose heads give rows of other anchors, or of other classes."""
        parts = {"bbox_regression": "boxes"}
        parts |= {"cls_logits": "classes"} if "classification" in self.weights else {}
        for name, what in parts.items():
            ours, theirs = (
                tuple(side.features["head"][name].shape[1:]) for side in (step.student, step.taught)
            )
            if ours != theirs:
                raise ValueError(
                    f"LD compares what both heads say of every cell, and of {what} the student's "
                    f"gives {ours[0]} x {ours[1]} numbers, the teacher's {theirs[0]} x {theirs[1]} "
                    "(cells x numbers). Give both the same levels and classes; or classification "
                    "None, which takes a teacher of other classes."
                )

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The parts ``main``, ``region`` and ``classification``, as far as they have a weight."""
        matched, valuable = self.chosen(step)
        positive = matched >= 0
        rows = indices_of_rows(torch.cat([positive, valuable > 0]))
        images, size = matched.shape
        places = [row + i % images * size for i, row in enumerate(rows)]
        main, region = torch.cat(places[:images]), torch.cat(places[images:])
        student, teacher = (s.features["head"] for s in (step.student, step.taught))
        logits = student["cls_logits"].flatten(0, 1)[main].float()
        scores = logits.detach().sigmoid().amax(dim=1)
        total = scores.sum().clamp(min=1) if self.divided else 1
        losses = {}
        if "main" in self.weights:
            sides = self._sides(student, teacher, main)
            losses["main"] = (scores * sides).sum() / 4 / total
        if "region" in self.weights:
            sides = self._sides(student, teacher, region)
            losses["region"] = (valuable.flatten()[region] * sides).sum() / 16 / total
        if "classification" in self.weights:
            taught = teacher["cls_logits"].flatten(0, 1)[main].float()
            each = divergence(logits, taught, self.class_temperature)
            share = of_level(positive, self._counts(step))[main % size]
            losses["classification"] = (each * share).sum()
        return losses

    def _sides(
        self, student: dict[str, Tensor], teacher: dict[str, Tensor], place: Tensor
    ) -> Tensor:
        """The sum over the sides of what the distributions at some anchors cost, (P,)."""
        ours, theirs = (
            of_sides(side["bbox_regression"].flatten(0, 1)[place].float())
            for side in (student, teacher)
        )
        return divergence(ours, theirs, self.temperature).sum(dim=1)

    @torch.no_grad()
    def chosen(self, step: Step) -> tuple[Tensor, Tensor]:
        """The objects of the anchors of each image, and the g_a of the valuable region, (B, N)."""
        if not isinstance(step.targets, list):
            raise TypeError("LD needs boxes: targets with `boxes` for each image")
        # Every image of a padded batch has the same ones.
        anchors = torch.cat(step.student.features["anchors"][0]).float()
        matcher: ATSSMatcher = step.student.model.proposal_matcher  # type: ignore[assignment]
        matched, thresholds = matcher.with_thresholds(step.targets, anchors, self._counts(step))
        if "region" not in self.weights:
            return matched, torch.zeros_like(matched, dtype=torch.float32)
        boxes, image = objects_of(step.targets)
        found = valuable_region(boxes, image, anchors, thresholds, len(matched), self.region_by)
        return matched, found.masked_fill(matched == IGNORED, 0.0)

    @staticmethod
    def _counts(step: Step) -> list[int]:
        return [len(of_level) for of_level in step.student.features["anchors"][0]]

    def picture(self, step: Step) -> OverImages:
        """The cells of every level whose boxes are distilled."""
        matched, valuable = self.chosen(step)
        frame, maps = (step.student.features[name] for name in ("input frame", "maps"))
        strength = torch.where(matched >= 0, 1.0, 0.5 * (valuable > 0))
        taught = torch.split(strength, self._counts(step), dim=1)
        columns = {
            f"stride {frame.size[0] / feature.shape[2]:.0f}": frame.over_images(
                cells.view(len(cells), *feature.shape[2:])
            )
            for feature, cells in zip(maps, taught, strict=True)
        }
        return OverImages(
            "Where the student learns how sure the teacher is of each side of a box: in the cells "
            "of strong yellow, which are matched to an object (the part main), and in those of "
            "pale yellow, which lie near one (the part region). Each column is a level.",
            columns,
        )


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KD of logits (..., n), with the mean over the n: (...)."""
    log_p, log_q = ((z / temperature).log_softmax(dim=-1) for z in (teacher, student))
    return temperature**2 * F.kl_div(log_q, log_p, reduction="none", log_target=True).mean(dim=-1)


def of_level(positive: Tensor, counts: list[int]) -> Tensor:
    """One over the positives (B, N) of each anchor's level in the batch, (N,)."""
    levels = torch.split(positive, counts, dim=1)
    shares = [(1 / of.sum().clamp(min=1)).expand(of.shape[1]) for of in levels]
    return torch.cat(shares)


def valuable_region(
    boxes: Tensor,
    image: Tensor,
    anchors: Tensor,
    thresholds: Tensor,
    images: int,
    region_by: RegionBy,
) -> Tensor:
    """The g_a of the anchors of a batch, without a wait for the device.

    Args:
        boxes: The boxes of all images, (M, 4).
        image: The image of each box, (M,).
        anchors: The anchors that every image has, (N, 4).
        thresholds: The threshold theta of each box, (M,).
        images: The number B of images.
        region_by: What the region is chosen by.

    Returns:
        The greatest IoU of each anchor with the boxes for which it is valuable, 0 outside of the
        region, (B, N).
    """
    found = anchors.new_zeros(images, len(anchors))
    at_a_time = max(1, _BLOCK // len(anchors))
    blocks = zip(
        *(torch.split(each, at_a_time) for each in (boxes, image, thresholds)), strict=True
    )
    for box, where, theta in blocks:
        overlaps = iou(box[:, None], anchors)  # (m, N)
        near = nearness(box[:, None], anchors, overlaps, region_by)
        valuable = (near >= theta[:, None] / 4) & (near < theta[:, None])
        gains = overlaps.where(valuable, 0)
        found = found.scatter_reduce(0, where[:, None].expand_as(gains), gains, "amax")
    return found


def nearness(boxes: Tensor, anchors: Tensor, overlaps: Tensor, region_by: RegionBy) -> Tensor:
    """D of boxes (m, 1, 4) and anchors (N, 4), whose IoU is (m, N), pair by pair."""
    if region_by == "published":
        areas = [(b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]) for b in (boxes, anchors)]
        # IoU = common / (sum of both areas - common)
        overlaps = overlaps / (1 + overlaps) * (areas[0] + areas[1]) / areas[1]
    corners = torch.maximum(boxes[..., 2:], anchors[:, 2:]), torch.minimum(boxes, anchors)[..., :2]
    diagonal = (corners[0] - corners[1]).square().sum(dim=-1)
    centres = ((b[..., :2] + b[..., 2:]) / 2 for b in (boxes, anchors))
    first, second = centres
    return overlaps - (first - second).square().sum(dim=-1) / diagonal


__all__ = ["LD", "RegionBy", "divergence", "nearness", "of_level", "valuable_region"]
