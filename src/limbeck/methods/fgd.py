"""Focal and Global Knowledge Distillation.

Yang, Li, Jiang, Gong, Yuan, Zhao, Yuan: Focal and Global Knowledge Distillation for Detectors. CVPR
2022, arXiv:2111.11837, as published in yzd-v/FGD. At each level the student's map S, behind a 1x1
convolution where the channels differ, imitates the teacher's T, (B, C, H, W) both; N = H * W.

**Attention** of a map X, with the ``temperature`` t:

    A_s(X) = N * softmax over positions of (mean over channels of |X|) / t     (B, H, W)
    A_c(X) = C * softmax over channels of (mean over positions of |X|) / t     (B, C)

**Masks.** A box covers the columns from l = floor(x1 * W / width) to r = ceil(x2 * W / width), both
included, and by its height the rows from u to d. M_fg is 0 where no box is, and elsewhere

    M_fg(y, x) = max over the boxes on the cell of 1 / ((d + 1 - u) * (r + 1 - l))

so that the smallest box counts. M_bg shares a sum of 1 among the cells of an image without a box.

**Focal.** The sums are over all elements, and nothing but B divides them:

    foreground = 1 / B * sum of M_fg * A_s(T) * A_c(T) * (S - T)^2
    background = 1 / B * sum of M_bg * A_s(T) * A_c(T) * (S - T)^2
    attention  = 1 / B * (sum of |A_s(S) - A_s(T)| + sum of |A_c(S) - A_c(T)|)

**Global.** A context block (GcNet) sees relations between positions. With one for the student and
one for the teacher, which are both trained,

    R(X) = X + W2 ReLU(LayerNorm(W1 c)),   c = sum over positions of softmax(w . X) * X
    relation = 1 / B * sum of (R_S(S) - R_T(T))^2

W2 is 0 at first. The published form has a bias beside w, which a softmax does not see. The
published weights (foreground, background, attention, relation), on P3 to P7 of one-stage detectors
and P2 to P5 of two-stage ones, with gradients clipped at a norm of 35, are

    RetinaNet, GFL                    1e-3, 5e-4, 5e-4, 5e-6          temperature .5
    RepPoints                         1.6e-3, 8e-4, 8e-4, 8e-6        temperature .5
    FCOS                              1.6e-3, 8e-4, 8e-4, 8e-6        temperature .8
    Faster R-CNN, Mask R-CNN          5e-5, 2.5e-5, 5e-5, 5e-7        temperature .5

The student begins with the teacher's neck and head, where the two are of one kind. The published
code scales boxes by the size of an image before it was padded, onto the map of the padded batch:
``boxes_by`` "content". A box that begins outside of the image wraps around to its far side there,
and is cut at the border here.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from limbeck import adapters
from limbeck.frame import Extent
from limbeck.landmarks import landmarks
from limbeck.methods.base import Step
from limbeck.methods.maps import STRONGER, LevelMethod
from limbeck.methods.pictures import OverImages, heat
from limbeck.methods.places import PlaceModules, Places
from limbeck.models.detection.parts.selection import written
from limbeck.ranges import POSITIVE, refuse_outside
from limbeck.schedules import Product, Schedule, Weight, as_schedule

BoxesBy = Literal["frame", "content"]

_BLOCK = 2**24  # cells times boxes at a time: 64 MB


class FGD(LevelMethod):
    """Focal and Global Distillation: maps are imitated inside and outside of boxes, and as a whole.

    The weights belong to maps of 256 channels of images of 800 x 1333 px, since the losses are
    sums. The authors' advice elsewhere: keep the ratio of the four, and choose ``weight`` so that
    the smallest part is of the size of the task's losses (.1 to 2).

    Args:
        places: The maps of both models, such as ``["fpn"]`` or ``["P3", "P4"]``; or, where the
            names differ, ``{student's place: teacher's place}``.
        weight: What multiplies the four weights: a number or a schedule.
        foreground: The weight alpha of the parts inside of boxes: a number or a schedule.
        background: The weight beta of the parts outside of boxes.
        attention: The weight gamma of the parts that compare the attentions.
        relation: The weight lambda of the parts that compare maps behind the context blocks.
        temperature: The temperature t of the attentions, above 0.
        boxes_by: What boxes are scaled by onto a map: the network's ``frame``, which the map is of,
            or the ``content`` of each image in it, as in the published code, whose masks are
            shifted and stretched in images that are smaller than the frame.
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Raises:
        TypeError: ``places`` is one string.
        ValueError: There is no place, the temperature is not above 0, or ``boxes_by`` is neither of
            the two.
    """

    adapters_name = "align"

    def __init__(
        self,
        places: Places = ("fpn",),
        weight: Weight = 1.0,
        foreground: Weight = 1e-3,
        background: Weight = 5e-4,
        attention: Weight = 5e-4,
        relation: Weight = 5e-6,
        temperature: float = 0.5,
        boxes_by: BoxesBy = "frame",
        teacher: str | None = None,
    ) -> None:
        super().__init__(places)
        self.teacher = teacher
        refuse_outside({"temperature": POSITIVE}, {"temperature": temperature}, "FGD's ")
        if boxes_by not in get_args(BoxesBy):
            raise ValueError(
                f"FGD's boxes_by is {boxes_by!r}; expected {' or '.join(get_args(BoxesBy))}"
            )
        self.student_taps = {**self.student_taps, "input frame": "frame"}
        parts = {
            "foreground": foreground,
            "background": background,
            "attention": attention,
            "relation": relation,
        }
        self.part_weights = {part: _product(weight, own) for part, own in parts.items()}
        self.temperature = temperature
        self.boxes_by = boxes_by
        self.student_context = PlaceModules()
        self.teacher_context = PlaceModules()

    def connect(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Refuse a student that is no detector, which has no boxes."""
        if "frame" not in landmarks(student):
            raise ValueError(
                "FGD needs a student that detects, since it makes its masks from boxes, and "
                f"{type(student).__name__} is no detector that limbeck knows. Take a method that "
                "needs no boxes, such as FitNet or MaskedGenerative."
            )

    def setup(self, step: Step) -> None:
        """Find the levels, make what they need, and give every part of each its weight."""
        super().setup(step)
        self.weights = {
            f"{level}.{part}": weight
            for level in self.partners
            for part, weight in self.part_weights.items()
        }

    def adapter(self, student: Tensor, teacher: Tensor) -> nn.Module | None:
        """A 1x1 convolution where channels differ."""
        return adapters.channel_convolution(student, teacher)

    def setup_level(self, level: str, student: Tensor, teacher: Tensor) -> None:
        """Make the adapter, where channels differ, and both context blocks of one level."""
        super().setup_level(level, student, teacher)
        self.student_context[level] = Context(teacher.shape[1])
        self.teacher_context[level] = Context(teacher.shape[1])

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The four parts of each level, such as ``fpn.0.foreground``."""
        masks = self.masks(step)
        losses: dict[str, Tensor] = {}
        for level, (student, teacher) in self.levels(step).items():
            with self.named_level(level):  # one network may round sizes up, the other down
                adapters.same_map(student, teacher)
            aligned = self.adapted(level, student, step)
            with torch.autocast(aligned.device.type, enabled=False):
                maps = aligned.float(), teacher.float()
                parts = focal(*maps, masks[level], self.temperature)
                parts["relation"] = self._relation(level, *maps)
            losses |= {f"{level}.{part}": loss for part, loss in parts.items()}
        return losses

    def _relation(self, level: str, student: Tensor, teacher: Tensor) -> Tensor:
        added: Tensor = self.student_context[level](student) - self.teacher_context[level](teacher)
        return (student - teacher + added).square().sum() / len(student)

    def masks(self, step: Step) -> dict[str, tuple[Tensor, Tensor]]:
        """The masks M_fg and M_bg of every level, (B, H, W) each."""
        frame = step.student.features["input frame"]
        if not isinstance(step.targets, list):
            raise TypeError(
                "FGD needs boxes, from which it makes its masks: targets with `boxes` for each "
                f"image, and the batch has {type(step.targets).__name__}. CWD and PKD need none."
            )
        maps = [student for student, _ in self.levels(step).values()]
        found = box_masks(
            [target["boxes"] for target in step.targets],
            [frame.size] if self.boxes_by == "frame" else frame.image_sizes,
            [(of_level.shape[-2], of_level.shape[-1]) for of_level in maps],
        )
        return dict(zip(self.partners, found, strict=True))

    def picture(self, step: Step) -> OverImages:
        """Where the foreground of every level is, and where the teacher looks."""
        frame = step.student.features["input frame"]
        masks = self.masks(step)
        columns: dict[str, list[Tensor]] = {}
        for level, (_, teacher) in self.levels(step).items():
            mask, _ = masks[level]
            name = f"{level}, stride {frame.size[0] / mask.shape[1]:.0f}"
            spatial, _ = attentions(teacher.float(), self.temperature)
            columns[f"{name}: foreground"] = frame.over_images(mask > 0)
            columns |= heat(frame, {f"{name}: attention": spatial})
        return OverImages(
            "Where the student imitates the teacher's maps as foreground: at the yellow positions, "
            "which a box touches. Beside it the teacher's attention, by which each position "
            f"counts. {STRONGER}",
            columns,
        )


class Context(nn.Module):
    """The context block of one map: what R adds to it.

    Args:
        channels: The number C of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // 2)
        self.position = nn.Conv2d(channels, 1, 1, bias=False)
        self.first = nn.Linear(channels, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.second = nn.Linear(hidden, channels)
        nn.init.kaiming_normal_(self.position.weight)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, feature: Tensor) -> Tensor:
        """The same vector for all positions: (B, C, H, W) to (B, C, 1, 1)."""
        feature = feature.to(self.position.weight.dtype)  # float32, unless the trainer converts it
        shares = self.position(feature).flatten(2).softmax(dim=2)  # (B, 1, H * W)
        context = (feature.flatten(2) @ shares.transpose(1, 2)).squeeze(2)  # (B, C)
        added: Tensor = self.second(F.relu(self.norm(self.first(context))))
        return added[:, :, None, None]


def focal(
    student: Tensor, teacher: Tensor, masks: tuple[Tensor, Tensor], temperature: float
) -> dict[str, Tensor]:
    """The parts of one level that go by attention.

    Args:
        student: The student's map S behind its adapter, (B, C, H, W).
        teacher: The teacher's map T, (B, C, H, W).
        masks: The masks M_fg and M_bg, (B, H, W) each.
        temperature: The temperature t.

    Returns:
        The parts ``foreground``, ``background`` and ``attention``, scalars.
    """
    count = len(student)
    spatial, channel = attentions(teacher, temperature)
    own_spatial, own_channel = attentions(student, temperature)
    squares = (student - teacher).square() * channel[:, :, None, None]
    weighed = squares.sum(dim=1) * spatial  # (B, H, W)
    foreground, background = ((weighed * mask).sum() / count for mask in masks)
    differences = (own_channel - channel).abs().sum() + (own_spatial - spatial).abs().sum()
    return {
        "foreground": foreground,
        "background": background,
        "attention": differences / count,
    }


def attentions(feature: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """A_s (B, H, W) and A_c (B, C) of a map (B, C, H, W)."""
    magnitude = feature.abs()
    over_channels = magnitude.mean(dim=1)  # (B, H, W)
    spatial = (over_channels.flatten(1) / temperature).softmax(dim=1) * over_channels[0].numel()
    channel = (magnitude.mean(dim=(2, 3)) / temperature).softmax(dim=1) * feature.shape[1]
    return spatial.view_as(over_channels), channel


def box_masks(
    boxes: Sequence[Tensor], extents: Sequence[Extent], grids: Sequence[Extent]
) -> list[tuple[Tensor, Tensor]]:
    """The masks of a batch, without a wait for the device.

    Args:
        boxes: The boxes of each image, (G, 4), xyxy, pixels. They may lie outside of it in part.
        extents: The (height, width) in pixels that each image's boxes are scaled by onto a map; a
            single one is that of all images.
        grids: The (H, W) of each level.

    Returns:
        For each level M_fg and M_bg, (B, H, W) each.
    """
    # A box of NaN, which fills an image's boxes up, is on no cell.
    padded = pad_sequence([b.float() for b in boxes], batch_first=True, padding_value=torch.nan)
    height, width = (written(sides, padded)[:, None] for sides in zip(*extents, strict=True))
    masks = []
    for rows, columns in grids:
        left, right = (padded[..., i] * columns / width for i in (0, 2))
        upper, lower = (padded[..., i] * rows / height for i in (1, 3))
        spans = (upper.floor(), lower.ceil()), (left.floor(), right.ceil())
        masks.append(_masks(*spans, (rows, columns)))
    return masks


def _masks(
    vertical: tuple[Tensor, Tensor], horizontal: tuple[Tensor, Tensor], grid: Extent
) -> tuple[Tensor, Tensor]:
    """M_fg and M_bg, (B, H, W), of the first and last cells of boxes, (B, G) each."""
    (upper, lower), (left, right) = vertical, horizontal
    share = 1 / ((lower + 1 - upper) * (right + 1 - left))
    rows, columns = (torch.arange(side, device=share.device) for side in grid)
    on_row = (rows >= upper[..., None]) & (rows <= lower[..., None])  # (B, G, H)
    on_column = (columns >= left[..., None]) & (columns <= right[..., None])  # (B, G, W)
    shares = torch.where(on_column, share[..., None], 0.0)
    foreground = share.new_zeros(len(share), *grid)
    at_a_time = max(1, _BLOCK // max(1, foreground.numel()))
    blocks = (torch.split(of_boxes, at_a_time, dim=1) for of_boxes in (on_row, shares))
    for down, across in zip(*blocks, strict=True):
        if across.shape[1]:
            there = torch.where(down[..., None], across[:, :, None], 0.0)  # (B, G, H, W)
            foreground = torch.maximum(foreground, there.amax(dim=1))
    outside = (foreground == 0).float()
    background = outside / outside.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    return foreground, background


def _product(first: Weight, second: Weight) -> Weight:
    """The product of two weights: a number where both are numbers, which is known to stay."""
    if isinstance(first, Schedule) or isinstance(second, Schedule):
        return Product((as_schedule(first), as_schedule(second)))
    return first * second


__all__ = ["FGD", "BoxesBy", "Context", "attentions", "box_masks", "focal"]
