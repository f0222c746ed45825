"""Cross-head knowledge distillation.

Wang, Chen, Zheng, Li, Cheng, Hou: CrossKD: Cross-Head Knowledge Distillation for Object Detection.
CVPR 2024, arXiv:2306.11369. Where the student is asked for the teacher's predictions by the head
that also learns from labels, the two contradict each other. So the student's features run through
the rest of the teacher's head, and what comes out there is compared with the teacher's own.

**Crossing.** In each branch (classes, boxes) of a dense head, let h be what a tower's convolution
number ``held`` gives, before its activation (0: the pyramid's map itself). On each level, the
student's h_S is brought to the scale of the teacher's h_T, channel by channel over the batch and
all positions,

    h = (h_S - mean(h_S)) / (std(h_S) + 1e-6) * std(h_T) + mean(h_T)

and goes through the activation, the teacher's further convolutions, and its last one. They are
frozen, and let the gradient pass. So c^ are the class logits and r^ the boxes of the student's
features; t and r are the teacher's own. The student's own last convolutions learn nothing of it.

**Classes.** With N the positives that the student's own labels make, one at least an image, and
w_a = 0 for anchors that they leave out (1 for all others),

    classification = 1 / N * sum over anchors and classes of
                     w_a * |sigma(c^) - sigma(t)| * BCE(c^, sigma(t))

**Boxes.** They weigh by how sure the teacher is, v_a = w_a * sigma(max over classes of t):

    RetinaNet    boxes = 1 / N * sum over anchors of v_a * (1 - GIoU(box of r^, box of r))
    FCOS         boxes = 1 / N * sum over anchors of v_a * -log(IoU(box of r^, box of r))
    GFL          boxes = 1 / V * sum over anchors of v_a * mean over sides of KL(r || r^)

where N of FCOS is the sum of the centre-ness of its positives, for the classes too; V is the sum of
all v_a, and KL that of the distributions of a side. The published values are in :class:`CrossKD`.
Of several processes, FCOS and GFL take the mean of N; RetinaNet's N and GFL's V are each one's own.

Where the original divides by a standard deviation of one value (P7 of one image of 128 px), all
losses are NaN; here such a channel takes the teacher's value. A channel of the student without any
variation has no huge gradient (:func:`limbeck.methods.maps.standardised_channels`). FCOS's N is 1
at least, where the original's 1e-6 makes losses a million times too large of a batch without boxes;
and where no anchor counts at all, GFL's boxes cost 0, in place of 0 / 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

from limbeck.dense_heads import activations_of_tower, layers_of_tower
from limbeck.frame import foreground_classes
from limbeck.landmarks import landmarks
from limbeck.methods.base import Method, Step
from limbeck.methods.errors import NoTeacherError
from limbeck.methods.maps import centred_channels, standardised_channels
from limbeck.methods.pictures import OverImages, strongest
from limbeck.models.detection.parts.box_coder import BoundedBoxCoder
from limbeck.models.detection.parts.gfl_head import GFLHead
from limbeck.models.detection.parts.heads import flat, foreground
from limbeck.models.detection.parts.locations import centreness, match_locations
from limbeck.models.detection.parts.matcher import IGNORED, match_anchors
from limbeck.models.detection.parts.overlaps import giou
from limbeck.ranges import Range, refuse_outside
from limbeck.schedules import Weight

Labelled = list[dict[str, Tensor]]
Levels = tuple[Tensor, ...]
Counted = tuple[Tensor, Tensor]  # the weights w_a, (B, N), and the scalar N

CLASSES, BOXES = "classification", "boxes"
_BRANCHES = {CLASSES: "head.classification_head", BOXES: "head.regression_head"}
_LAST = {CLASSES: "cls_logits", BOXES: "bbox_reg"}
_MAPS = {CLASSES: "cls_maps", BOXES: "box_maps"}
_PLACES = {"anchors", "cls_tower", "box_tower", *_MAPS.values()}
_NEAR = 1.0  # pixels: anchors of a library that rounds them are half a pixel off at most
_LEAST = 1e-6  # of an IoU in a logarithm, and of what is divided by


class CrossKD(Method):
    """Distillation through the teacher's head, between two RetinaNets, two FCOS or two GFL.

    It needs labels, for what the losses are divided by. The published values: RetinaNet holds 3
    convolutions of 4, with weights of 1 and 1; GFL 3 of 4, with 1 and 4; FCOS 2 of 4, with 0.4 and
    0.75.

    Args:
        held: The number of each tower's convolutions after which the student's features go over to
            the teacher's head; 0: before the first one. Default (None): as published, which leaves
            the teacher's last one, or FCOS's last two.
        classification: The weight of the classes: a number or a schedule. Default (None): the
            published one.
        boxes: The weight of the boxes: a number or a schedule. Default (None): the published one.
        other_classes: Whether a teacher is taken whose classes have other names, or another order:
            class k of the student learns from class k of the teacher, whatever they are called.
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Raises:
        ValueError: ``held`` is below 0, or above 32.
    """

    def __init__(
        self,
        held: int | None = None,
        classification: Weight | None = None,
        boxes: Weight | None = None,
        other_classes: bool = False,
        teacher: str | None = None,
    ) -> None:
        super().__init__()
        self.teacher = teacher
        refuse_outside({"held": Range(0, 32)}, {"held": held}, "CrossKD's ")
        self.held = held
        self.compares_classes = not other_classes
        self.given = {CLASSES: classification, BOXES: boxes}

    def connect(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Find where the towers are held, and refuse heads that are not of one kind."""
        if teacher is None:
            raise NoTeacherError("CrossKD needs a teacher, through whose head features go")
        self.form = _common_form(student, teacher)
        towers = [
            min(len(activations_of_tower(model, f"{path}.conv")) for path in _BRANCHES.values())
            for model in (student, teacher)
        ]
        usual = max(0, towers[1] - self.form.left)
        held = usual if self.held is None else self.held
        if held > min(towers):
            raise ValueError(
                f"CrossKD: held is {held}; the student's towers have {towers[0]} convolutions and "
                f"the teacher's {towers[1]}. Give one that both have, or another pair."
            )
        self.rest = {branch: _rest(teacher, branch, held) for branch in _BRANCHES}
        self.student_taps = _places(student, held) | {"anchors": "anchors", "frame": "frame"}
        own = {f"own {branch}": place for branch, place in _MAPS.items()}
        self.teacher_taps = _places(teacher, held) | own
        published = zip(self.given.items(), self.form.weights, strict=True)
        self.weights = {part: usual if w is None else w for (part, w), usual in published}

    def setup(self, step: Step) -> None:
        """Refuse heads that do not agree in width, anchors or classes."""
        ours, theirs = step.student.features, step.taught.features
        for branch in _BRANCHES:
            shapes = [[tuple(f.shape[1:]) for f in side[branch]] for side in (ours, theirs)]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"CrossKD: where the head's tower for {branch} is held, the student has maps "
                    f"of {_written(shapes[0])} and the teacher of {_written(shapes[1])} (channels, "
                    "height, width). The student's go through the teacher's head: give both models "
                    "the same levels, and the same channels in pyramid and head."
                )
        classes = [foreground_classes(side.model) for side in (step.student, step.taught)]
        if classes[0] != classes[1]:
            raise ValueError(
                f"CrossKD: the student has {classes[0]} classes and the teacher {classes[1]}. Both "
                "need the same classes in the same order: give a teacher of the student's classes."
            )
        anchors = self._anchors(step), _anchors_of_teacher(step)
        same = len(anchors[0]) == len(anchors[1])
        apart = (anchors[0] - anchors[1]).abs().amax(dim=1) if same else None
        if apart is None or apart.max() > _NEAR:
            number = 0 if apart is None else int(apart.argmax())
            found = [f"{len(a)}, number {number} of {_sides(a[number])} px" for a in anchors]
            raise ValueError(
                f"CrossKD: the heads predict for other anchors: the student's for {found[0]}, the "
                f"teacher's for {found[1]} (width x height). Give both the same anchor_sizes and "
                "aspect_ratios."
            )

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The parts ``classification`` and ``boxes``, over all levels."""
        anchors = self._anchors(step)
        cells = [feature[0, 0].numel() for feature in step.taught.features[f"own {BOXES}"]]
        per_cell = len(anchors) // sum(cells)
        crossed, own = {}, {}
        for branch in _BRANCHES:
            crossed[branch] = _rows(self.crossed(step, branch), per_cell)
            own[branch] = _rows(step.taught.features[f"own {branch}"], per_cell)
        logits, taught = (foreground(step.taught.model, side[CLASSES]) for side in (crossed, own))
        counted, normaliser = self.counted(step, anchors)
        sure = counted * taught.amax(dim=-1).sigmoid()  # (B, N)
        different = self.form.difference(crossed[BOXES], own[BOXES], anchors)
        return {
            CLASSES: (counted * quality_focal(logits, taught)).sum() / normaliser,
            BOXES: (sure * different).sum() / self.form.of_boxes(normaliser, sure),
        }

    def crossed(self, step: Step, branch: str) -> list[Tensor]:
        """The maps of each level that the teacher's head makes of the student's features."""
        teacher = step.taught.model
        layers = [teacher.get_submodule(path) for path in self.rest[branch]]
        scales: Any = getattr(teacher.get_submodule(_BRANCHES[branch]), "scales", None)  # GFL's
        pairs = zip(step.student.features[branch], step.taught.features[branch], strict=True)
        maps = []
        for level, (ours, theirs) in enumerate(pairs):
            feature = aligned(ours.float(), theirs.float()).to(theirs.dtype)
            for layer in layers:
                feature = layer(feature)
            maps.append(feature if scales is None else scales(feature, level))
        return maps

    def picture(self, step: Step) -> OverImages:
        """What the teacher's head finds in its own features, and in the student's."""
        own, crossed = (
            strongest(step.frame, (logits.float().amax(dim=1).sigmoid() for logits in levels))
            for levels in (step.taught.features[f"own {CLASSES}"], self.crossed(step, CLASSES))
        )
        return OverImages(
            "What the teacher's head finds in its own features, and in the student's: the stronger "
            "the yellow, the surer it is that an object is there, on the surest level.",
            {"the teacher's own": own, "of the student's features": crossed},
        )

    def counted(self, step: Step, anchors: Tensor) -> Counted:
        """How much each of the anchors (N, 4) counts, and what the losses are divided by."""
        if not isinstance(step.targets, list):
            raise TypeError("CrossKD needs boxes: targets with `boxes` for each image")
        levels = torch.split(anchors, [len(a) for a in step.student.features["anchors"][0]])
        counted, normaliser = self.form.counted(step.student.model, step.targets, levels)
        if self.form.over_processes:
            normaliser = step.mean_over_processes(normaliser)
        return counted, normaliser.clamp(min=1)

    @staticmethod
    def _anchors(step: Step) -> Tensor:
        # Every image of a padded batch has the same ones.
        return torch.cat(step.student.features["anchors"][0]).float()


class Form(ABC):
    """What differs between the kinds of dense heads.

    Attributes:
        left: How many of a tower's convolutions the published rows leave to the teacher.
        weights: The published weights of the classes and of the boxes.
        over_processes: Whether the published code divides by the mean of N over all processes.
    """

    left: ClassVar[int]
    weights: ClassVar[tuple[float, float]]
    over_processes: ClassVar[bool] = True

    @abstractmethod
    def counted(self, student: Any, targets: Labelled, anchors: Levels) -> Counted:
        """The weights w_a (B, N) and the number N, by the labels; anchors come by level."""

    @abstractmethod
    def difference(self, crossed: Tensor, own: Tensor, anchors: Tensor) -> Tensor:
        """How the boxes of r^ and r differ, (B, N), of what the head gave, (B, N, numbers)."""

    def of_boxes(self, normaliser: Tensor, sure: Tensor) -> Tensor:
        """What the loss of the boxes is divided by, of N and the weights v_a, (B, N)."""
        return normaliser


class OfRetinaNet(Form):
    """Boxes as deltas from anchors."""

    left = 1
    weights = (1.0, 1.0)
    over_processes = False

    def counted(self, student: Any, targets: Labelled, anchors: Levels) -> Counted:
        """Anchors that the student's matcher ignores do not count."""
        every, matcher = torch.cat(anchors), student.proposal_matcher
        matched = torch.stack([match_anchors(matcher, target, every) for target in targets])
        return _of_matched(matched)

    def difference(self, crossed: Tensor, own: Tensor, anchors: Tensor) -> Tensor:
        """One minus the generalised IoU; no side is scaled by more than 1000 / 16."""
        coder = BoundedBoxCoder((1.0, 1.0, 1.0, 1.0))
        places = anchors.expand_as(own).flatten(0, 1)
        boxes = (coder.decode_single(deltas.flatten(0, 1), places) for deltas in (crossed, own))
        return (1 - giou(*boxes)).view(own.shape[:2])


class OfFCOS(Form):
    """Boxes as distances from a location to the four sides, in strides."""

    left = 2
    weights = (0.4, 0.75)

    def counted(self, student: Any, targets: Labelled, anchors: Levels) -> Counted:
        """All locations count; what is divided by is the centre-ness of the positive ones."""
        boxes = [target["boxes"] for target in targets]
        matched = match_locations(anchors, boxes, student.center_sampling_radius)
        every = torch.cat(anchors)
        # Row 0 is a box of zeros, for locations of the background, whose index is -1.
        pairs = zip(boxes, matched, strict=True)
        wanted = torch.stack([F.pad(each, (0, 0, 1, 0))[index + 1] for each, index in pairs])
        distances = student.box_coder.encode(every.expand_as(wanted), wanted)
        central = torch.where(matched >= 0, centreness(distances), 0.0)
        return torch.ones_like(central), central.sum()

    def difference(self, crossed: Tensor, own: Tensor, anchors: Tensor) -> Tensor:
        """The logarithm of the IoU, negative; boxes about one location need no decoding."""
        ours, theirs = F.relu(crossed), F.relu(own)  # (B, N, 4), as torchvision's head does
        common = torch.minimum(ours, theirs)
        areas = [(d[..., 0] + d[..., 2]) * (d[..., 1] + d[..., 3]) for d in (ours, theirs, common)]
        union = areas[0] + areas[1] - areas[2]
        return -(areas[2] / union.clamp(min=_LEAST)).clamp(min=_LEAST).log()


class OfGFL(Form):
    """Boxes as a distribution over distances for each side."""

    left = 1
    weights = (1.0, 4.0)

    def counted(self, student: Any, targets: Labelled, anchors: Levels) -> Counted:
        """Anchors in the padding of their image do not count."""
        counts = [len(of_level) for of_level in anchors]
        return _of_matched(student.proposal_matcher(targets, torch.cat(anchors), counts))

    def difference(self, crossed: Tensor, own: Tensor, anchors: Tensor) -> Tensor:
        """The mean over the sides of the divergence of their distributions."""
        q, p = (F.log_softmax(d.view(*d.shape[:2], 4, -1), dim=-1) for d in (crossed, own))
        return F.kl_div(q, p, reduction="none", log_target=True).sum(dim=-1).mean(dim=-1)

    def of_boxes(self, normaliser: Tensor, sure: Tensor) -> Tensor:
        """The sum V of the weights."""
        return sure.sum().clamp(min=_LEAST)


def aligned(student: Tensor, teacher: Tensor) -> Tensor:
    """The student's held map at the scale of the teacher's, both (B, C, H, W) in float32."""
    _, mean, variance = centred_channels(teacher)
    return standardised_channels(student) * variance.sqrt() + mean


def quality_focal(logits: Tensor, teacher: Tensor) -> Tensor:
    """The loss of each anchor's classes: (B, N, K) logits of both to (B, N)."""
    wanted = teacher.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return ((logits.sigmoid() - wanted).abs() * entropy).sum(dim=-1)


def _of_matched(matched: Tensor) -> Counted:
    """The weights w_a and the number N of anchors that were matched, (B, N)."""
    positives = (matched >= 0).sum(dim=1).clamp(min=1)
    return (matched != IGNORED).float(), positives.sum().float()


def _form_of(model: nn.Module) -> type[Form] | None:
    if not landmarks(model).keys() >= _PLACES:
        return None
    if isinstance(model.get_submodule("head"), GFLHead):
        return OfGFL
    if isinstance(model, detection.FCOS):
        return OfFCOS
    return OfRetinaNet if isinstance(model, detection.RetinaNet) else None


def _common_form(student: nn.Module, teacher: nn.Module) -> Form:
    form = _form_of(student)
    if form is None or form is not _form_of(teacher):
        raise ValueError(
            f"CrossKD: the student is a {type(student).__name__} and the teacher a "
            f"{type(teacher).__name__}; expected two RetinaNets, two FCOS or two GFL, since the "
            "student's features go through the teacher's head. Take PKD or CWD for other pairs."
        )
    return form()


def _places(model: nn.Module, held: int) -> dict[str, str]:
    """The taps where both towers are held, on every level."""
    places = {}
    for branch, path in _BRANCHES.items():
        tower = f"{path}.conv"
        last = activations_of_tower(model, tower)[held - 1] - 1 if held else 0
        places[branch] = (
            f"{layers_of_tower(model, tower)[last][0]}[*]" if held else f"{tower}:input[*]"
        )
    return places


def _rest(model: nn.Module, branch: str, held: int) -> list[str]:
    """The paths of what follows in a branch, from the activation on to its last convolution."""
    tower = f"{_BRANCHES[branch]}.conv"
    first = activations_of_tower(model, tower)[held - 1] if held else 0
    layers = [name for name, _ in layers_of_tower(model, tower)[first:]]
    return [*layers, f"{_BRANCHES[branch]}.{_LAST[branch]}"]


def _rows(maps: list[Tensor], per_cell: int) -> Tensor:
    """What a head gave on all levels, (B, A*K, H, W) each, anchor by anchor: (B, N, K)."""
    return torch.cat([flat(m.float(), m.shape[1] // per_cell) for m in maps], dim=1)


def _anchors_of_teacher(step: Step) -> Tensor:
    """The anchors (N, 4) that the teacher's head predicts for, which its forward does not reach."""
    size = step.student.features["frame"].size
    generator: Any = step.taught.model.get_submodule("anchor_generator")
    maps = step.taught.features[f"own {BOXES}"]
    anchors: Tensor = generator(ImageList(maps[0].new_empty(1, 3, *size), [size]), maps)[0]
    return anchors.float()


def _sides(anchor: Tensor) -> str:
    width, height = (anchor[2:] - anchor[:2]).tolist()
    return f"{width:.4g} x {height:.4g}"


def _written(shapes: Iterable[Sequence[int]]) -> str:
    return ", ".join(" x ".join(map(str, shape)) for shape in shapes)
