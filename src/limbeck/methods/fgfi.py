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

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from limbeck import adapters
from limbeck.landmarks import landmarks
from limbeck.methods.base import Method, Step
from limbeck.methods.pictures import OverImages
from limbeck.methods.places import PlaceModules, Places, paired
from limbeck.models.detection.parts.selection import indices_of_rows, written
from limbeck.ranges import Range, refuse_outside
from limbeck.schedules import Weight

LevelRule = Literal["own_best", "overall_best", "canonical"]
Activation = Literal["relu", "leaky_relu"]
Resize = Literal["area", "bilinear"]
Grid = tuple[int, int]

_BLOCK = 2**18  # IoUs at a time on a CPU: 1 MB, which stays in a core's cache
_BLOCK_ELSEWHERE = 2**26  # where the memory is not known
_BYTES = 12  # of temporaries for each IoU
_FASTER_TO = 0.6  # share of a map to which a CPU computes positions faster than the whole map


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
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Raises:
        ValueError: There is no place, ``kernel_size`` is outside of its range, or ``factor``,
            ``level_rule``, ``activation`` or ``resize`` is none of these.
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
        resize: Resize | None = None,
        teacher: str | None = None,
    ) -> None:
        super().__init__()
        self.teacher = teacher
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
        if resize not in (*get_args(Resize), None):
            raise ValueError(
                f"resize={resize!r}: expected one of {', '.join(get_args(Resize))}, or None"
            )
        pairs = paired(places)
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
        self.refuse_unpaired(student, teacher)
        maps = step.student.features["all maps"]
        for level, feature in student.items():
            with self.named(level):
                taught = self._resized(teacher[level], feature)
                convolution = adapters.convolution(feature, taught, self.kernel_size)
            self.adapters[level] = _adapter(convolution, self.activation)
            self.anchors_of[level] = _level_of(level, feature, maps)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The part ``imitation``: one loss over all maps."""
        teacher = step.taught.by_level(self.places)
        masks = self.masks(step)
        # All levels at once: for the number of positions the device is waited for.
        flat = pad_sequence([mask.flatten() for mask in masks.values()], batch_first=True)
        near = dict(zip(masks, indices_of_rows(flat), strict=True))
        summed = []
        for level, feature in step.student.by_level(self.places).items():
            image, row, column = where = _unraveled(near[level], _grid(feature))
            adapted = self._adapted(level, feature, where).float()  # (P, C)
            with self.named(level):
                resized = self._resized(teacher[level], feature)
            taught = resized[image, :, row, column].float()
            summed.append((adapted - taught).square().sum())
        count = sum(map(len, near.values()))
        return {"imitation": torch.stack(summed).sum() / (2 * max(1, count))}

    def masks(self, step: Step) -> dict[str, Tensor]:
        """The imitation masks (B, H, W), boolean, of every imitated map."""
        features = step.student.features
        grids = [_grid(level) for level in features["all maps"]]
        height, _ = features["input frame"].size
        strides = [height / rows for rows, _ in grids]
        if not isinstance(step.targets, list):
            raise TypeError("FineGrainedImitation needs boxes: targets with `boxes` for each image")
        boxes = [target["boxes"] for target in step.targets]
        anchors = features["all anchors"][0]  # every image of a padded batch has the same ones
        found = masks_of_images(anchors, grids, boxes, self.factor, self.level_rule, strides)
        return {level: found[index] for level, index in self.anchors_of.items()}

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
        convolution = next(m for m in adapter.modules() if isinstance(m, nn.Conv2d))
        if _whole_is_less(convolution, feature, len(where[0])):
            image, row, column = where
            whole: Tensor = adapter(feature)
            return whole[image, :, row, column]
        adapted = adapters.convolved_at(convolution, feature, where)
        for activation in list(adapter.children())[1:]:
            adapted = activation(adapted)
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
        return adapters.resized(teacher, student.shape[2:], self.resize)


def imitation_masks(
    anchors: Sequence[Tensor],
    grids: Sequence[Grid],
    boxes: Tensor,
    factor: float = 0.5,
    level_rule: LevelRule = "own_best",
    strides: Sequence[float] = (),
) -> list[Tensor]:
    """The positions near the objects of one image, a mask (H, W) for each level.

    See :func:`masks_of_images`.
    """
    found = masks_of_images(anchors, grids, [boxes], factor, level_rule, strides)
    return [of_level[0] for of_level in found]


def masks_of_images(
    anchors: Sequence[Tensor],
    grids: Sequence[Grid],
    boxes: Sequence[Tensor],
    factor: float = 0.5,
    level_rule: LevelRule = "own_best",
    strides: Sequence[float] = (),
) -> list[Tensor]:
    """The positions near the objects of each image of a batch, section 3.2.

    Args:
        anchors: The anchors of each level, (H * W * K, 4), position by position, xyxy, pixels; the
            same for all images.
        grids: The (H, W) of each level.
        boxes: The boxes g of each image, (G, 4), xyxy, pixels, exclusive. A box of a single pixel
            or less marks nothing, as in the original.
        factor: The factor psi.
        level_rule: Which anchors decide for a box, see :class:`FineGrainedImitation`.
        strides: The stride of each level, pixels, for the rule ``canonical``.

    Returns:
        The masks (B, H, W) of each level, boolean.

    Raises:
        ValueError: The rule is ``canonical``, and there is not one stride for each level.
    """
    if level_rule == "canonical" and len(strides) != len(grids):
        raise ValueError(f"strides={strides}: canonical needs one for each of {len(grids)} levels")
    sizes = [rows * columns for rows, columns in grids]
    places = _coordinates(anchors, sizes)
    every = torch.cat(list(boxes)).float()  # the boxes of all images, one after the other
    image = torch.cat([torch.full_like(b[:, 0], i, dtype=torch.long) for i, b in enumerate(boxes)])
    found = places.new_zeros(len(boxes), places.shape[-1], dtype=torch.int32)
    at_a_time = max(1, _ious_at_a_time(places.device) // places[0].numel())
    for start in range(0, len(every), at_a_time):
        block = every[start : start + at_a_time]
        best = torch.split(_best_iou(places, block), sizes, dim=1)
        peaks = torch.stack([of_level.amax(dim=1) for of_level in best])  # (levels, G)
        if level_rule == "overall_best":
            peaks = peaks.amax(dim=0).expand_as(peaks)
        counted = (block[:, 2:] - block[:, :2] > 1).any(dim=1)
        if level_rule == "canonical":
            counted = counted & _at_canonical_level(block, strides)
        thresholds = (factor * peaks).masked_fill(~counted, torch.inf)[..., None]
        near = [iou > threshold for iou, threshold in zip(best, thresholds, strict=True)]
        of_block = image[start : start + at_a_time]
        found.index_add_(0, of_block, torch.cat(near, dim=1).int())
    masks = torch.split(found > 0, sizes, dim=1)
    return [mask.view(-1, *grid) for mask, grid in zip(masks, grids, strict=True)]


def _coordinates(anchors: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """The anchors of the P positions of all levels, (4, K, P).

    Coordinates lie apart, so that the maximum over K runs along rows. A level with fewer anchors a
    position repeats its last one, which changes no maximum.
    """
    levels = [of_level.reshape(size, -1, 4) for of_level, size in zip(anchors, sizes, strict=True)]
    most = max(level.shape[1] for level in levels)
    filled = [
        torch.cat([level, level[:, -1:].expand(-1, most - level.shape[1], -1)], dim=1)
        if level.shape[1] < most
        else level
        for level in levels
    ]
    return torch.cat([level.permute(2, 1, 0) for level in filled], dim=2).float().contiguous()


def _ious_at_a_time(device: torch.device) -> int:
    """So many that a CPU's core keeps them in its cache, and a GPU needs a 64th of its memory."""
    if device.type == "cpu":
        return _BLOCK
    if device.type != "cuda":
        return _BLOCK_ELSEWHERE
    memory: int = torch.cuda.get_device_properties(device).total_memory
    return memory // 64 // _BYTES


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
    there = written(strides, boxes).log2().round()
    distances = (there[:, None] - wanted).abs()
    return distances.argmin(dim=0) == torch.arange(len(strides), device=boxes.device)[:, None]


def _whole_is_less(convolution: nn.Conv2d, feature: Tensor, count: int) -> bool:
    """Whether a convolution of the whole map takes less than one at so many of its positions.

    That keeps the window of each position: less time up to six tenths of the map (measured on a
    CPU), and less memory as long as the windows hold no more values than the map and its outcome.
    """
    cells = feature[:, 0].numel()
    if feature.device.type == "cpu":
        return count > _FASTER_TO * cells
    ours, theirs = convolution.in_channels, convolution.out_channels
    window = math.prod(convolution.kernel_size) * ours
    return count * window > cells * (ours + theirs)


def _adapter(convolution: nn.Conv2d, activation: Activation | None) -> nn.Module:
    """The adapter r, with the original's initial weights: N(0, 1) wrapped into (-2, 2), by 1e-4."""
    with torch.no_grad():
        convolution.weight.normal_().fmod_(2).mul_(1e-4)
    if activation is None:
        return convolution
    after = nn.ReLU(inplace=True) if activation == "relu" else nn.LeakyReLU(0.1, inplace=True)
    return nn.Sequential(convolution, after)


def _unraveled(cells: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """The image, row and column of cells that are counted through the maps (H, W) of a batch."""
    rows, columns = grid
    row = cells // columns
    return row // rows, row % rows, cells % columns


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


__all__ = ["FineGrainedImitation", "LevelRule", "imitation_masks", "masks_of_images"]
