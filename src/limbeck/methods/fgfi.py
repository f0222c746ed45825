"""Fine-grained feature imitation.

Wang, Yuan, Zhang, Feng: Distilling Object Detectors with Fine-grained Feature Imitation. CVPR 2019,
arXiv:1906.03609. The student imitates the teacher where an anchor lies near an object. With a(y, x,
k) the student's anchors, g_j the boxes and psi the ``factor`` (section 3.2):

    m_j     = max over y, x, k of IoU(a(y, x, k), g_j)
    I(y, x) = 1 where some j and k have IoU(a(y, x, k), g_j) > psi * m_j
    L       = 1 / (2 N) * sum over y, x, channels of I * (r(S) - T)^2,    N = sum of I

where r, a 3x3 convolution and a ReLU, brings the student's map S to the teacher's T (section 3.3).
All anchors count, those across the image's border too. Without a box, or without an anchor that
meets one, the loss is 0 and still has a gradient (the original's is 0 / 0 there).

N counts the whole batch of a process and all its levels, so that a position weighs the same
wherever it is. On a pyramid, of which the paper has none, :data:`LevelRule` says which boxes count
at which level.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck import adapters
from limbeck.landmarks import landmarks
from limbeck.methods.base import Method, PlaceModules, Places, Step, paired
from limbeck.methods.pictures import OverImages
from limbeck.ranges import Range, refuse_outside
from limbeck.schedules import Weight

LevelRule = Literal["own_best", "overall_best", "canonical"]
Activation = Literal["relu", "leaky_relu"]
Grid = tuple[int, int]

_BLOCK = 2**18  # IoUs at a time: 1 MB, which stays in a core's cache


class FineGrainedImitation(Method):
    """Imitation of the teacher's feature maps at the positions near objects.

    The authors' advice on the weight: bring imitation and task to one level first, then tune. The
    balance that training shows 20 steps after it sets in says which weight that is.

    Args:
        places: The maps of both models on whose positions the student has anchors: ``["maps"]``,
            which is every level that it has; some of them, such as ``["P3", "P4"]``; or, where the
            names differ, ``{student's place: teacher's place}``.
        weight: The weight of the loss; the published one is ``LateStart(0.01, 400)``.
        factor: The factor psi. 0 marks every position that has an anchor on a box, 1 marks none.
        level_rule: Which anchors decide for a box. ``own_best``: at every level the best one of
            that level; ``overall_best``: the best one of all levels; ``canonical``: a box counts at
            one level alone, by its size (Lin et al., arXiv:1612.03144, equation 1), the nearest one
            that there is, and there as in ``own_best``.
        kernel_size: The kernel of the adapter's convolution, odd.
        activation: What follows the convolution; ``leaky_relu`` (of slope 0.1) or None for teachers
            whose maps have negative values, which a ReLU cannot reach.
        resize: How the teacher's map is brought to the student's height and width where their
            strides differ: ``area`` (the mean over the cells that fall together) or ``bilinear``.
            Default (None): such a pair is refused.

    Raises:
        ValueError: There is no place, ``kernel_size`` is outside of its range, or ``factor``,
            ``level_rule`` or ``activation`` is none of these.
        TypeError: ``places`` is one string.
    """

    def __init__(
        self,
        places: Places = ("maps",),
        weight: Weight = 0.01,
        factor: float = 0.5,
        level_rule: LevelRule = "own_best",
        kernel_size: int = 3,
        activation: Activation | None = "relu",
        resize: Literal["area", "bilinear"] | None = None,
    ) -> None:
        super().__init__()
        refuse_outside({"kernel_size": Range(1, 31)}, locals(), "FineGrainedImitation's ")
        if not 0 <= factor <= 1 or level_rule not in get_args(LevelRule):
            raise ValueError(
                f"factor={factor}, level_rule={level_rule!r}: expected a factor from 0 to 1 and a "
                f"rule out of {', '.join(get_args(LevelRule))}"
            )
        if activation not in (*get_args(Activation), None):
            raise ValueError(
                f"activation={activation!r}: expected one of {', '.join(get_args(Activation))}, or "
                "None"
            )
        pairs = paired(places)
        if not pairs:
            raise ValueError("places is empty: name one, such as P4, or leave it out for all maps")
        self.places = tuple(pairs)
        own = {"all maps": "maps", "all anchors": "anchors", "input frame": "frame"}
        self.student_taps = dict(zip(pairs, pairs, strict=True)) | own
        self.teacher_taps = pairs
        self.weights = {"imitation": weight}
        self.factor = factor
        self.level_rule = level_rule
        self.kernel_size = kernel_size
        self.activation = activation
        self.resize = resize
        self.adapters = PlaceModules()
        self.anchors_of: dict[str, int] = {}

    def connect(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Refuse a student without anchors: there is no mask."""
        if "anchors" not in landmarks(student):
            raise ValueError(
                f"FineGrainedImitation needs a student with anchors, which {type(student).__name__}"
                " does not have. Use a detector with anchors, or FitNet, which imitates everywhere."
            )

    def setup(self, step: Step) -> None:
        """Make one adapter for each map, and find which level's anchors lie on it."""
        student, teacher = (s.by_level(self.places) for s in (step.student, step.taught))
        if student.keys() != teacher.keys():
            raise ValueError(
                f"FineGrainedImitation: the student has {len(student)} maps ({', '.join(student)}),"
                f" the teacher {len(teacher)} ({', '.join(teacher)}). Name those of equal stride "
                "one by one, such as places=[P3, P4], or {student's place: teacher's place}."
            )
        maps = step.student.features["all maps"]
        for level, feature in student.items():
            try:
                taught = self._resized(teacher[level], feature)
                convolution = adapters.convolution(feature, taught, self.kernel_size)
            except ValueError as error:
                raise ValueError(f"FineGrainedImitation at {level}: {error}") from None
            self.adapters[level] = _adapter(convolution, self.activation)
            self.anchors_of[level] = _level_of(level, feature, maps)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The part ``imitation``: one loss over all maps."""
        teacher = step.taught.by_level(self.places)
        masks = self.masks(step)
        summed, count = [], 0
        for level, feature in step.student.by_level(self.places).items():
            image, row, column = where = masks[level].nonzero(as_tuple=True)
            adapted = self._adapted(level, feature, where).float()  # (P, C)
            taught = self._resized(teacher[level], feature)[image, :, row, column].float()
            summed.append((adapted - taught).square().sum())
            count += len(image)
        return {"imitation": torch.stack(summed).sum() / (2 * max(1, count))}

    def masks(self, step: Step) -> dict[str, Tensor]:
        """The imitation masks (B, H, W), boolean, of every imitated map."""
        features = step.student.features
        grids = [_grid(level) for level in features["all maps"]]
        height, _ = features["input frame"].size
        strides = [height / rows for rows, _ in grids]
        if not isinstance(step.targets, list):
            raise TypeError("FineGrainedImitation needs boxes: targets with `boxes` for each image")
        of_images = [
            imitation_masks(anchors, grids, target["boxes"], self.factor, self.level_rule, strides)
            for anchors, target in zip(features["all anchors"], step.targets, strict=True)
        ]
        return {
            level: torch.stack([of_image[index] for of_image in of_images])
            for level, index in self.anchors_of.items()
        }

    def picture(self, step: Step) -> OverImages:
        """The imitation mask of every map."""
        frame = step.student.features["input frame"]
        columns = {
            f"{level}, stride {frame.size[0] / mask.shape[1]:.0f}": frame.over_images(mask)
            for level, mask in self.masks(step).items()
        }
        return OverImages(
            "Where the student imitates the teacher's maps: at the yellow positions, at which it "
            "has an anchor near an object. Each column is a map.",
            columns,
        )

    def adapter_of(self, student_tap: str) -> nn.Module | None:
        """The adapter on that map, or on its first level."""
        return self.adapters.at(student_tap)

    def _adapted(self, level: str, feature: Tensor, where: tuple[Tensor, ...]) -> Tensor:
        """The adapted feature where it is imitated, (P, C): nothing else is used of it."""
        adapter = self.adapters[level]
        if isinstance(adapter, nn.Conv2d):
            return adapters.convolved_at(adapter, feature, where)
        convolution, activation = adapter.children()
        assert isinstance(convolution, nn.Conv2d)
        adapted: Tensor = activation(adapters.convolved_at(convolution, feature, where))
        return adapted

    def _resized(self, teacher: Tensor, student: Tensor) -> Tensor:
        if teacher.shape[2:] == student.shape[2:]:
            return teacher
        if self.resize is None:  # not at every image size where one network rounds up, one down
            raise ValueError(
                f"the student's map {tuple(student.shape)} and the teacher's "
                f"{tuple(teacher.shape)} differ in height or width. Choose places of equal stride, "
                "or say how the teacher's map is brought to the student's size: resize=area or "
                "bilinear."
            )
        return F.interpolate(teacher, student.shape[2:], mode=self.resize)


def imitation_masks(
    anchors: Sequence[Tensor],
    grids: Sequence[Grid],
    boxes: Tensor,
    factor: float = 0.5,
    level_rule: LevelRule = "own_best",
    strides: Sequence[float] = (),
) -> list[Tensor]:
    """The positions near the objects of one image, section 3.2.

    Args:
        anchors: The anchors of each level, (H * W * K, 4), position by position, xyxy, pixels.
        grids: The (H, W) of each level.
        boxes: The boxes g, (G, 4), xyxy, pixels, exclusive. A box of a single pixel or less marks
            nothing, as in the original.
        factor: The factor psi.
        level_rule: Which anchors decide for a box, see :class:`FineGrainedImitation`.
        strides: The stride of each level, pixels, for the rule ``canonical``.

    Returns:
        A mask (H, W) for each level, boolean.

    Raises:
        ValueError: The rule is ``canonical``, and there is not one stride for each level.
    """
    if level_rule == "canonical" and len(strides) != len(grids):
        raise ValueError(f"strides={strides}: canonical needs one for each of {len(grids)} levels")
    levels = [
        of_level.reshape(rows * columns, -1, 4).permute(2, 1, 0).float().contiguous()
        for of_level, (rows, columns) in zip(anchors, grids, strict=True)
    ]  # (4, K, H * W): coordinates apart, and the maximum over K runs along rows
    found = [of_level.new_zeros(of_level.shape[-1], dtype=torch.bool) for of_level in levels]
    at_a_time = max(1, _BLOCK // max(of_level[0].numel() for of_level in levels))
    for block in torch.split(boxes.float(), at_a_time) if len(boxes) else ():
        best = [_best_iou(of_level, block) for of_level in levels]
        peaks = torch.stack([of_level.amax(dim=1) for of_level in best])  # (levels, G)
        if level_rule == "overall_best":
            peaks = peaks.amax(dim=0).expand_as(peaks)
        counted = (block[:, 2:] - block[:, :2] > 1).any(dim=1)
        if level_rule == "canonical":
            counted = counted & _at_canonical_level(block, strides)
        thresholds = (factor * peaks).masked_fill(~counted, torch.inf)
        for mask, iou, threshold in zip(found, best, thresholds, strict=True):
            mask |= (iou > threshold[:, None]).any(dim=0)
    return [mask.view(grid) for mask, grid in zip(found, grids, strict=True)]


def _best_iou(anchors: Tensor, boxes: Tensor) -> Tensor:
    """The best IoU over the anchors of every position: (4, K, P) and (G, 4) to (G, P)."""
    x1, y1, x2, y2 = anchors
    left, top, right, bottom = boxes.T[:, :, None, None]
    width = torch.minimum(x2, right).sub_(torch.maximum(x1, left)).clamp_(min=0)
    height = torch.minimum(y2, bottom).sub_(torch.maximum(y1, top)).clamp_(min=0)
    common = width.mul_(height)
    areas = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top)
    return common.div_(areas.sub_(common)).amax(dim=1)


def _at_canonical_level(boxes: Tensor, strides: Sequence[float]) -> Tensor:
    """Whether each level is the nearest one to what equation 1 of the FPN says of a box.

    The boxes are (G, 4), and what is said of them is (levels, G).
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1).sqrt()
    wanted = torch.floor(4 + torch.log2(sides / 224 + 1e-6))
    there = torch.tensor(strides, device=boxes.device).log2().round()
    distances = (there[:, None] - wanted).abs()
    return distances.argmin(dim=0) == torch.arange(len(strides), device=boxes.device)[:, None]


def _adapter(convolution: nn.Conv2d, activation: Activation | None) -> nn.Module:
    """The adapter r, with the original's initial weights: N(0, 1) wrapped into (-2, 2), by 1e-4."""
    with torch.no_grad():
        convolution.weight.normal_().fmod_(2).mul_(1e-4)
    if activation is None:
        return convolution
    after = nn.ReLU(inplace=True) if activation == "relu" else nn.LeakyReLU(0.1, inplace=True)
    return nn.Sequential(convolution, after)


def _grid(feature: Tensor) -> Grid:
    rows, columns = feature.shape[-2:]
    return rows, columns


def _level_of(name: str, feature: Tensor, maps: Sequence[Tensor]) -> int:
    """Which of the maps that have anchors lies where ``feature`` does."""
    itself = [i for i, level in enumerate(maps) if level is feature]
    alike = itself or [i for i, level in enumerate(maps) if _grid(level) == _grid(feature)]
    if len(alike) != 1:
        raise ValueError(
            f"FineGrainedImitation: {name} is {feature.shape[-2]} x {feature.shape[-1]}, and the "
            f"student has anchors on {', '.join(f'{h} x {w}' for h, w in map(_grid, maps))}. "
            "Choose a place of the stride of exactly one of them."
        )
    return alike[0]


__all__ = ["FineGrainedImitation", "LevelRule", "imitation_masks"]
