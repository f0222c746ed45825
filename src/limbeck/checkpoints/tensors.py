"""What is done to the values of tensors that change libraries: rows, channels and classes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights

Tensors = dict[str, Tensor]

UNUSED_LOGIT = -100.0  # bias of a class that was never trained: a score of 0

_NO_CLASS = ("__background__", "N/A")
_COCO_SLOTS: Sequence[str] = RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
COCO_IDS = tuple(i for i, name in enumerate(_COCO_SLOTS) if name not in _NO_CLASS)


@dataclass(frozen=True)
class Transform:
    """A change of values and the way back.

    Attributes:
        to_ours: The change from another library's value to torchvision's.
        to_theirs: The way back, bit for bit.
    """

    to_ours: Callable[[Tensor], Tensor]
    to_theirs: Callable[[Tensor], Tensor]


def _same(value: Tensor) -> Tensor:
    return value


def _flipped_input(value: Tensor) -> Tensor:
    return value.flip(1) if value.dim() > 1 else value  # a bias has no input channels


def _with_box_rows(value: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(value[:4]), value])


SAME = Transform(_same, _same)
BGR = Transform(_flipped_input, _flipped_input)  # a first convolution of BGR <-> RGB
BACKGROUND_FIRST = Transform(  # background in the last row <-> in the first one
    lambda value: value.roll(1, 0), lambda value: value.roll(-1, 0)
)
BACKGROUND_BOXES = Transform(  # no box rows for the background <-> four unused ones, first
    _with_box_rows, lambda value: value[4:].clone()
)


def size_major(sizes: int, ratios: int) -> Transform:
    """Anchors of a cell ordered by size, then ratio <-> by ratio, then size.

    Args:
        sizes: The number of sizes of a cell's anchors.
        ratios: The number of their aspect ratios.

    Returns:
        The change of the rows of a layer that has one or more for each anchor.
    """
    return Transform(
        lambda value: _grouped(value, sizes, ratios).transpose(0, 1).flatten(0, 2),
        lambda value: _grouped(value, ratios, sizes).transpose(0, 1).flatten(0, 2),
    )


def slots(groups: int, count: int, used: Sequence[int], bias: float = UNUSED_LOGIT) -> Transform:
    """``count`` classes, some of them never used <-> the used ones alone.

    Args:
        groups: The number of anchors, each with its own rows for all classes; 1 where there are no
            anchors.
        count: The number of the other library's classes.
        used: The places of our classes among those, in our order.
        bias: The bias of unused classes on the way back, whose weights are 0.

    Returns:
        The change of the rows of a layer that scores classes.
    """

    def to_ours(value: Tensor) -> Tensor:
        return _grouped(value, groups, count)[:, list(used)].flatten(0, 2)

    def to_theirs(value: Tensor) -> Tensor:
        known = _grouped(value, groups, len(used))
        shape = groups, count, *known.shape[2:]
        full = known.new_full(shape, bias if value.dim() == 1 else 0.0)
        full[:, list(used)] = known
        return full.flatten(0, 2)

    return Transform(to_ours, to_theirs)


def _grouped(value: Tensor, outer: int, inner: int) -> Tensor:
    """Rows as (outer, inner, what is left), then the other dimensions."""
    return value.reshape(outer, inner, -1, *value.shape[1:])


def check_box_rows(tensors: Tensors, library: str) -> None:
    """Raise ValueError unless Faster R-CNN, if this is one, has four box rows for each class row.

    Args:
        tensors: The tensors with torchvision's names, background first.
        library: The library that they were read from, for the message.

    Raises:
        ValueError: There are more or fewer rows of boxes.
    """
    classes = tensors.get("roi_heads.box_predictor.cls_score.weight")
    boxes = tensors.get("roi_heads.box_predictor.bbox_pred.weight")
    if classes is not None and boxes is not None and len(boxes) != 4 * len(classes):
        raise ValueError(
            f"the box head has {len(boxes) - 4} rows of boxes for {len(classes)} rows of classes: "
            f"expected {4 * len(classes) - 4}, four for each class but the background. Boxes that "
            f"all classes share, or those of {library}'s first versions, are not supported."
        )


def scaled_input(weight: Tensor, from_std: Sequence[float], to_std: Sequence[float]) -> Tensor:
    """A first convolution for an input that is divided by another standard deviation.

    Exact but for rounding. A mean cannot be folded so: the padding is 0 after normalisation.

    Args:
        weight: The weight of the convolution, (C, 3, k, k).
        from_std: The standard deviation of the three input channels that it was trained with, in
            the weight's order.
        to_std: The standard deviation that it is to be run with, on the same scale.

    Returns:
        The scaled weight, (C, 3, k, k).
    """
    scale = torch.tensor(to_std, dtype=torch.float64) / torch.tensor(from_std, dtype=torch.float64)
    return (weight.double() * scale.view(1, -1, 1, 1)).to(weight.dtype)


def without_counters(tensors: Tensors) -> Tensors:
    """The tensors less ``num_batches_tracked``, for a library that does not count batches."""
    return {k: v for k, v in tensors.items() if not k.endswith(".num_batches_tracked")}


def with_counters(tensors: Tensors) -> Tensors:
    """The tensors with ``num_batches_tracked`` after each ``running_var``, 0 where it lacked."""
    full: Tensors = {}
    for name, value in tensors.items():
        full[name] = value
        counter = name.removesuffix("running_var") + "num_batches_tracked"
        if name.endswith(".running_var") and counter not in tensors:
            full[counter] = torch.zeros((), dtype=torch.int64, device=value.device)
    return full
