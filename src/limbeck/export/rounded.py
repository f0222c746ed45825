"""Whether a file that rounds to INT8 finds nearly what PyTorch does, whose sums have another order.

A value near the middle of two steps is now and then rounded to the other one, after which all that
follows differs a little. So a file is compared twice: without rounding, as any other, and with it,
by how much of what one side finds the other finds, too.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from limbeck.export.check import IOU, SCORE, Agreement, Found, batches, found_by_both
from limbeck.exported import ExportedModel
from limbeck.frame import takes_list


@torch.inference_mode()
def agreement(model: nn.Module, exported: ExportedModel, images: Sequence[Tensor]) -> Agreement:
    """Compare a quantized model with its file.

    Args:
        model: The model, in evaluation mode, on the CPU.
        exported: Its file.
        images: The images, (3, H, W) each, RGB in [0, 1].

    Returns:
        How far they agree.
    """
    if takes_list(model):
        return _of_detections(model, exported, images)
    framed = batches(exported, images)
    ours = torch.cat([model(batch) for batch in framed]).softmax(-1)
    theirs = torch.cat([exported.outputs(batch)["logits"] for batch in framed]).softmax(-1)
    same = ours.argmax(-1) == theirs.argmax(-1)
    return Agreement(len(images), int(same.sum()), float((ours - theirs).abs().mean()))


def _of_detections(
    model: nn.Module, exported: ExportedModel, images: Sequence[Tensor]
) -> Agreement:
    found, differences = 0, []
    for ours, theirs, _ in found_by_both(model, exported, images):
        for one, other in ((ours, theirs), (theirs, ours)):
            counted = ~(one.scores < SCORE)  # a NaN counts
            found += int(counted.sum())
            differences += _of_same(one, counted, other)
    mean = sum(differences) / len(differences) if differences else 0.0
    return Agreement(found, len(differences), mean)


def _of_same(one: Found, counted: Tensor, other: Found) -> list[float]:
    """The differences of score of the counted detections that the other side has, too."""
    if not len(other.labels):
        return []
    overlaps = box_iou(one.boxes[counted], other.boxes)
    overlaps[one.labels[counted, None] != other.labels] = 0
    best, where = overlaps.max(1)
    same = best >= IOU
    differences: list[float] = (
        (one.scores[counted][same] - other.scores[where[same]]).abs().tolist()
    )
    return differences
