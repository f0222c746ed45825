"""What a dense detector predicts, as boxes that know the anchor that made them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import clip_boxes_to_image

from limbeck.models.detection.parts.heads import foreground
from limbeck.models.detection.parts.selection import indices_of_rows, suppressed
from limbeck.models.precision import in_full_precision

Decode = Callable[[Tensor, Tensor], Tensor]

BEFORE_NMS = 2000  # predictions that enter NMS, of each level of each image
NMS_IOU = 0.7


@dataclass(frozen=True)
class Predictions:
    """The dense predictions for a batch, without gradient.

    Attributes:
        scores: The score of the best class at each level, (B, H*W*A): cells row by row, and the
            anchors of a cell side by side.
        deltas: The box regression at each level, (B, H*W*A, 4).
        anchors: The anchors, ``anchors[image][level]``, (H*W*A, 4), xyxy, pixels.
        cells: The (H, W) of each level.
        sizes: The (height, width) of each image's content, pixels.
        decode: A function from deltas (n, 4) and their anchors (n, 4) to boxes (n, 4).
    """

    scores: list[Tensor]
    deltas: list[Tensor]
    anchors: list[list[Tensor]]
    cells: list[tuple[int, int]]
    sizes: tuple[tuple[int, int], ...]
    decode: Decode


@dataclass(frozen=True)
class Proposals:
    """The proposals of one image, best first.

    Attributes:
        boxes: The proposals, (n, 4), xyxy, pixels.
        scores: The score of each, (n,).
        positions: The level, y, x and anchor that predicted each, (n, 4), int64.
    """

    boxes: Tensor
    scores: Tensor
    positions: Tensor


def predictions(model: nn.Module, features: Mapping[str, Any]) -> Predictions:
    """The predictions of a RetinaNet or FCOS.

    Args:
        model: The detector.
        features: Its features in one step: ``proposals`` (what its head returns), ``anchors``,
            ``frame``, and its pyramid as ``assist``.

    Returns:
        The predictions for the batch.
    """
    outputs = {k: in_full_precision(v.detach()) for k, v in features["proposals"].items()}
    scores = foreground(model, outputs["cls_logits"]).amax(-1).sigmoid()  # (B, N)
    box_coder: Any = model.box_coder
    decode: Decode
    if isinstance(model, detection.FCOS):
        scores = (scores * outputs["bbox_ctrness"].squeeze(-1).sigmoid()).sqrt()
        decode = box_coder.decode
    else:
        decode = box_coder.decode_single
    counts = [len(of_level) for of_level in features["anchors"][0]]
    return Predictions(
        scores=list(torch.split(scores, counts, 1)),
        deltas=list(torch.split(outputs["bbox_regression"], counts, 1)),
        anchors=features["anchors"],
        cells=[tuple(of_level.shape[-2:]) for of_level in features["assist"]],
        sizes=features["frame"].image_sizes,
        decode=decode,
    )


@torch.no_grad()
def propose(predicted: Predictions, count: int, before_nms: int = BEFORE_NMS) -> list[Proposals]:
    """The proposals of each image, by NMS within each level.

    Args:
        predicted: The dense predictions.
        count: The number of proposals for each image, at most.
        before_nms: The number of predictions that enter NMS, at most, of each level of each image.

    Returns:
        The proposals of each image, best first.
    """
    best = [scores.topk(min(before_nms, scores.shape[1])) for scores in predicted.scores]
    images = [_of_image(predicted, i, best) for i in range(len(predicted.sizes))]
    boxes = torch.stack([found.boxes for found in images])
    rows = indices_of_rows((boxes[..., 2:] > boxes[..., :2]).all(-1))
    return [_suppressed(found, row, count) for found, row in zip(images, rows, strict=True)]


def _of_image(predicted: Predictions, image: int, best: list[Any]) -> Proposals:
    """The best predictions of each level of an image, level by level, clipped."""
    boxes, scores, positions = [], [], []
    for level, (values, indices) in enumerate(best):
        index = indices[image]
        deltas, anchors = predicted.deltas[level][image], predicted.anchors[image][level]
        boxes.append(predicted.decode(deltas[index], anchors[index]))
        scores.append(values[image])
        positions.append(_positions(index, level, len(anchors), predicted.cells[level]))
    clipped = clip_boxes_to_image(torch.cat(boxes), predicted.sizes[image])
    return Proposals(clipped, torch.cat(scores), torch.cat(positions))


def _suppressed(found: Proposals, full: Tensor, count: int) -> Proposals:
    """What NMS within each level leaves of the proposals that are not empty."""
    boxes, scores, positions = found.boxes[full], found.scores[full], found.positions[full]
    keep = suppressed(boxes, scores, positions[:, 0], NMS_IOU)[:count]
    return Proposals(boxes[keep], scores[keep], positions[keep])


def _positions(index: Tensor, level: int, anchors: int, cells: tuple[int, int]) -> Tensor:
    """The level, y, x and anchor, (n, 4), that indices (n,) into a level's anchors mean."""
    height, width = cells
    per_cell = anchors // (height * width)
    cell = index // per_cell
    parts = [torch.full_like(index, level), cell // width, cell % width, index % per_cell]
    return torch.stack(parts, dim=1)
