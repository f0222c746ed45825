"""ReviewKD: knowledge review.

Chen, Liu, Zhao, Jia: Distilling Knowledge via Knowledge Review. CVPR 2021, arXiv:2104.09044, as
published in dvlab-research/ReviewKD. A level of the teacher is learnt by the student's map at that
level and by all coarser ones. With levels i = 0 (the finest) to n - 1 (the coarsest), from the
coarsest on, the student's maps S_i are fused (Attention Based Fusion) with what the level before
handed on:

    x   = BN(1x1 convolution(S_i))                                     to ``mid_channels`` channels
    y   = the residual of level i + 1, resized to the size of x        (none for i = n - 1)
    z   = sigmoid(1x1 convolution([x, y]))                             to 2 channels
    x   = x * z_0 + y * z_1, resized to the size of T_i                the residual of level i
    R_i = BN(3x3 convolution(x))                                       to the channels of T_i

All resizing takes the nearest value, and the convolutions before a BN have no bias. The loss

    L = sum over levels of HCL(R_i, T_i)

compares maps as a whole and in coarse averages (Hierarchical Context Loss): with a_l the adaptive
average to l x l cells,

    HCL(R, T) = [MSE(R, T) + sum over l of w_l * MSE(a_l(R), a_l(T))] / [1 + sum over l of w_l]

over those l of 4, 2, 1 that are smaller than the map's height and width; w is 1/2 for the first of
them, 1/4 for the next, 1/8 for the last. Published weights of L:

    ImageNet               ResNet-34 to 18: 1; ResNet-50 to MobileNetV1: 8, ``mid_channels`` 256
    CIFAR-100              .6 to 8, as Staircase(weight, stairs=20, every=781, first=0)
    COCO, places fpn       Faster R-CNN: R50 1, R18 1.2, MobileNetV2 2; RetinaNet R50 1

On ImageNet the places are ``C2`` to ``C5`` and ``pooled``. The paper compares maps before their
activation. In the authors' ResNets a ReLU overwrites these maps before they are compared, so that
``C2`` to ``C5`` repeat their row, and ``C2.pre`` to ``C5.pre`` do not; of their MobileNet the maps
are ``C2.pre`` to ``C5.pre``. In the published code the height of a map alone decides about l, and a
batch of one image raises an error, since it has no variance at ``pooled``.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.data.sampling import rank_and_world_size
from limbeck.methods.base import Method, Side, Step
from limbeck.methods.maps import STRONGER
from limbeck.methods.pictures import OverImages, heat
from limbeck.methods.places import PlaceModules, Places, paired
from limbeck.ranges import COUNT, refuse_outside
from limbeck.schedules import Weight

MOST_CHANNELS = 512  # of the fused maps, where nobody says how many
AVERAGES = (4, 2, 1)  # cells a side


class ReviewKD(Method):
    """Knowledge review: each level of the teacher teaches the student's level and all coarser ones.

    The fusions have batch norms, which go by the statistics of each batch, and by those of all
    processes where the student has a ``SyncBatchNorm``. Where a channel has a single value, which
    has no variance, they go by their running statistics.

    Args:
        places: Places that both models have, from the finest to the coarsest map; or, where they
            differ, ``{student's place: teacher's place}``. A vector (B, C), as ``pooled`` is one,
            counts as a map of one cell.
        weight: The weight of every level's part: a number or a schedule.
        mid_channels: The number of channels of the fused maps. Default (None): as many as the
            student has at the coarsest place, and at most 512.
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Raises:
        ValueError: ``mid_channels`` is less than 1.
        TypeError: ``places`` is one string.
    """

    needs_targets = False

    def __init__(
        self,
        places: Places = ("C2", "C3", "C4", "C5", "pooled"),
        weight: Weight = 1.0,
        mid_channels: int | None = None,
        teacher: str | None = None,
    ) -> None:
        super().__init__()
        self.teacher = teacher
        refuse_outside({"mid_channels": COUNT}, {"mid_channels": mid_channels}, "ReviewKD's ")
        pairs = paired(places)
        self.student_taps = dict(zip(pairs, pairs, strict=True))
        self.teacher_taps = pairs
        self.weight = weight
        self.mid_channels = mid_channels
        self.fusions = PlaceModules()

    def setup(self, step: Step) -> None:
        """Make the fusion of each level."""
        student, teacher = self._maps("student", step.student), self._maps("teacher", step.taught)
        self.refuse_unpaired(student, teacher)
        _refuse_growing(student)
        coarsest = next(reversed(student))
        mid = self.mid_channels or min(MOST_CHANNELS, student[coarsest].shape[1])
        modules = step.student.model.modules()
        synchronised = any(isinstance(module, nn.SyncBatchNorm) for module in modules)
        norm = OneValueSyncBatchNorm if synchronised else OneValueBatchNorm2d
        for level, feature in student.items():
            channels = feature.shape[1], mid, teacher[level].shape[1]
            self.fusions[level] = Fusion(*channels, reviews=level != coarsest, norm=norm)
        self.weights = dict.fromkeys(student, self.weight)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The loss HCL of each level, by the level's name."""
        teacher = self._maps("teacher", step.taught)
        return {
            level: hierarchical_loss(result.float(), teacher[level].float())
            for level, result in self.reviewed(step).items()
        }

    def reviewed(self, step: Step) -> dict[str, Tensor]:
        """What is compared with the teacher's map of each level: R_i, (B, C, H, W) as T_i."""
        student, teacher = self._maps("student", step.student), self._maps("teacher", step.taught)
        results: dict[str, Tensor] = {}
        residual: Tensor | None = None
        for level in reversed(student):
            size = teacher[level].shape[2:]
            residual, results[level] = self.fusions[level](student[level], residual, size)
        return {level: results[level] for level in student}

    def picture(self, step: Step) -> OverImages:
        """How active the teacher's maps are, and what is compared with them."""
        teacher = self._maps("teacher", step.taught)
        maps: dict[str, Tensor] = {}
        for level, result in self.reviewed(step).items():
            sides = ("teacher", teacher[level]), ("student, reviewed", result)
            maps |= {f"{level}, {side}": x.float().abs().mean(dim=1) for side, x in sides}
        return OverImages(
            "How active the teacher's maps are at each position, and the student's that are "
            "compared with them: each is fused of the student's map at that level and of all "
            f"coarser ones. {STRONGER}",
            heat(step.frame, maps),
        )

    def _maps(self, name: str, side: Side) -> dict[str, Tensor]:
        """The features as maps (B, C, H, W)."""
        maps = {}
        for level, feature in side.by_level(self.student_taps).items():
            if feature.dim() not in (2, 4):
                raise ValueError(
                    f"ReviewKD at {level}: the {name}'s feature is {tuple(feature.shape)}; "
                    "expected a map (B, C, H, W) or a vector (B, C). Choose another place."
                )
            maps[level] = feature if feature.dim() == 4 else feature[:, :, None, None]
        return maps

    def adapter_of(self, student_tap: str) -> nn.Module | None:
        """The fusion of that place, or of its first level."""
        return self.fusions.at(student_tap)


class Fusion(nn.Module):
    """The fusion of one level with what the coarser ones handed on.

    Args:
        student: The number of the student's channels.
        mid: The number of channels of the fused map.
        teacher: The number of the teacher's channels.
        reviews: Whether there is a coarser level.
        norm: The class of its batch norms.
    """

    def __init__(
        self,
        student: int,
        mid: int,
        teacher: int,
        reviews: bool,
        norm: "type[OneValueBatchNorm2d | OneValueSyncBatchNorm]",
    ) -> None:
        super().__init__()
        self.reduce = _convolution(student, mid, 1, norm)
        self.attention = nn.Conv2d(2 * mid, 2, 1) if reviews else None
        self.expand = _convolution(mid, teacher, 3, norm)

    def forward(
        self, feature: Tensor, residual: Tensor | None, size: torch.Size
    ) -> tuple[Tensor, Tensor]:
        """Fuse one level.

        Args:
            feature: The student's map S_i, (B, C_S, h, w).
            residual: What the coarser level handed on, (B, M, h', w'); None at the coarsest.
            size: The (H, W) of the teacher's map.

        Returns:
            What is handed on, (B, M, H, W), and what is compared, (B, C_T, H, W).
        """
        fused: Tensor = self.reduce(feature)
        if self.attention is not None and residual is not None:
            reviewed = _resized(residual, fused.shape[2:])
            shares = self.attention(torch.cat([fused, reviewed], dim=1)).sigmoid()
            fused = fused * shares[:, :1] + reviewed * shares[:, 1:]
        fused = _resized(fused, size)
        return fused, self.expand(fused)


class OneValueBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that goes by its running statistics where a channel has a single value.

    Such a channel has no variance, and a plain batch norm refuses it while it is trained.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise a map, (B, C, H, W) to (B, C, H, W)."""
        if self.training and _has_one_value(input):
            return _by_running_statistics(self, input)
        return super().forward(input)


class OneValueSyncBatchNorm(nn.SyncBatchNorm):
    """The same with the statistics of all processes, among which each has a value of its own."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise a map, (B, C, H, W) to (B, C, H, W)."""
        _, world_size = rank_and_world_size()
        if self.training and _has_one_value(input) and world_size == 1:
            return _by_running_statistics(self, input)
        normalised: Tensor = super().forward(input)
        return normalised


def _has_one_value(feature: Tensor) -> bool:
    """Whether each channel of a map (B, C, H, W) has a single value."""
    return feature.numel() == feature.shape[1]


def _by_running_statistics(norm: nn.BatchNorm2d | nn.SyncBatchNorm, feature: Tensor) -> Tensor:
    """What a batch norm gives in evaluation mode."""
    statistics = norm.running_mean, norm.running_var
    return F.batch_norm(feature, *statistics, norm.weight, norm.bias, eps=norm.eps)


def hierarchical_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The loss HCL of maps (B, C, H, W), a scalar."""
    difference = student - teacher  # averages of a difference are differences of averages
    loss = difference.square().mean()
    share = total = 1.0
    for cells in AVERAGES:
        if cells < min(difference.shape[2:]):
            share /= 2
            total += share
            loss = loss + share * F.adaptive_avg_pool2d(difference, cells).square().mean()
    return loss / total


def _convolution(before: int, after: int, kernel_size: int, norm: type[nn.Module]) -> nn.Sequential:
    """A convolution that keeps the size of a map, and its batch norm."""
    padding = kernel_size // 2
    convolution = nn.Conv2d(before, after, kernel_size, padding=padding, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, norm(after))


def _resized(feature: Tensor, size: torch.Size) -> Tensor:
    if feature.shape[2:] == size:
        return feature
    return F.interpolate(feature, size, mode="nearest")


def _refuse_growing(maps: Mapping[str, Tensor]) -> None:
    """Refuse maps that do not go from the finest to the coarsest."""
    sizes = {level: tuple(feature.shape[2:]) for level, feature in maps.items()}
    areas = [height * width for height, width in sizes.values()]
    if areas != sorted(areas, reverse=True):
        found = ", ".join(f"{level} {h} x {w}" for level, (h, w) in sizes.items())
        raise ValueError(
            f"ReviewKD: the student's maps are {found}; expected them from the finest to the "
            "coarsest. Name the places in that order."
        )


__all__ = ["Fusion", "OneValueBatchNorm2d", "ReviewKD", "hierarchical_loss"]
