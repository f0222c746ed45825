"""Ground truth in the forms in which the library's losses take it, with classes from 0."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_convert

from limbeck.models.detection.parts.transform import Targets


def centred(boxes: Tensor) -> Tensor:
    """Boxes (M, 4), xyxy, as cxcywh."""
    converted: Tensor = box_convert(boxes, "xyxy", "cxcywh")
    return converted


def rows_of(targets: Targets, written: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """The class and the box of each object.

    Args:
        targets: The ``boxes`` (M, 4) and ``labels`` (M,) of each image.
        written: Brings boxes, xyxy in pixels, to the form that is wanted.

    Returns:
        The rows (M, 5) of each image.
    """
    return [
        torch.cat([(t["labels"] - 1)[:, None].to(t["boxes"].dtype), written(t["boxes"])], dim=1)
        for t in targets
    ]


def padded_rows(targets: Targets, written: Callable[[Tensor], Tensor]) -> Tensor:
    """The same for the whole batch, with rows of zeros after an image's own.

    Args:
        targets: The ``boxes`` (M, 4) and ``labels`` (M,) of each image.
        written: Brings boxes, xyxy in pixels, to the form that is wanted.

    Returns:
        The rows (B, M, 5).
    """
    return pad_sequence(rows_of(targets, written), batch_first=True)


def lists_of(targets: Targets) -> tuple[list[Tensor], list[Tensor]]:
    """The boxes (M, 4), xyxy, and the classes (M,) of each image, in two lists."""
    return [target["boxes"] for target in targets], [target["labels"] - 1 for target in targets]
