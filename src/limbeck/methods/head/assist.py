"""The assist: a box head of the teacher's kind on the student's pyramid."""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from limbeck.methods.base import Side
from limbeck.methods.head.places import class_count, pyramid_levels
from limbeck.methods.head.regions import Regions
from limbeck.models.detection.parts.box_coder import BoxCoder
from limbeck.models.detection.parts.heads import BoxPredictor
from limbeck.models.detection.parts.roi_align import ROI_SIZE, RoIAlign
from limbeck.models.detection.parts.roi_heads import DELTA_WEIGHTS, l1_losses
from limbeck.transfer import transfer_weights

LEVELS = 4  # that regions are read from, the finest of the student's pyramid
WIDTH = 1024
ASSIST_PARTS = ("assist.classification", "assist.bbox_regression")


class Assist(nn.Module):
    """A box head: regions of the student's pyramid, two fully connected layers, class and box.

    From a pyramid that begins at P3, a region is read twice as coarse as by a Faster R-CNN, whose
    pyramid begins at P2.

    Args:
        levels: The first and the last level of the pyramid that regions are read from. Level k has
            a stride of 2**k pixels.
        channels: The channels of the pyramid.
        classes: The number of foreground classes.
        width: The width of both fully connected layers.
    """

    def __init__(self, levels: tuple[int, int], channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.channels = channels
        self.box_roi_pool = RoIAlign(levels, aligned=True, canonical_level=levels[0] + 2)
        self.box_head: nn.Module = TwoMLPHead(channels * ROI_SIZE**2, width)
        self.box_predictor = BoxPredictor(width, classes + 1)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.startswith("box_head"):
                nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.box_predictor.cls_score.weight, std=0.01)
        nn.init.normal_(self.box_predictor.bbox_pred.weight, std=0.001)

    def begin_as(self, teacher: Any) -> None:
        """Take over all layers of a teacher's box head, by a copy that is trained.

        Args:
            teacher: The teacher's ``roi_heads``.

        Raises:
            ValueError: Classes or shapes differ.
        """
        predictors = self.box_predictor, teacher.box_predictor
        ours, theirs = (predictor.cls_score.out_features - 1 for predictor in predictors)
        if ours != theirs:
            raise ValueError(
                f"the student has {ours} classes, the teacher {theirs}. Give both the same."
            )
        box_head = teacher.box_head
        if not isinstance(box_head, TwoMLPHead):
            expected = next(box_head.parameters()).shape[1]
            if expected != self.channels:
                raise ValueError(
                    f"the student's pyramid has {self.channels} channels, the teacher's "
                    f"{type(box_head).__name__} takes {expected}."
                )
            self.box_head = trained_copy(box_head)
        parts = ("box_head", "box_predictor")
        transfer_weights(self, teacher, {part: part for part in parts})

    def forward(self, pyramid: Sequence[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """The hidden layers for the regions of a batch.

        Args:
            pyramid: The maps of the student's pyramid, (B, C, H, W), finest first.
            boxes: The regions of each image, (R_i, 4), xyxy, pixels.

        Returns:
            The hidden layers s_1, s_2, ..., (R, width) each, see :func:`hidden_layers`.
        """
        levels = dict(zip(self.box_roi_pool.featmap_names, pyramid, strict=False))
        return hidden_layers(self.box_head, self.box_roi_pool(levels, boxes, []))

    def losses(self, last: Tensor, regions: Regions) -> dict[str, Tensor]:
        """The cross-entropy of classes and the L1 of boxes, both divided by the number of regions.

        Args:
            last: The last hidden layer, (R, width).
            regions: The regions that it comes from.

        Returns:
            Both losses by part.
        """
        logits, deltas = self.box_predictor(last)
        wanted = BoxCoder(DELTA_WEIGHTS).encode_single(regions.truth, torch.cat(regions.boxes))
        losses = l1_losses(logits, deltas, regions.labels, wanted, positive=regions.positive)
        return dict(zip(ASSIST_PARTS, losses.values(), strict=True))


def new_assist(student: Side, width: int) -> Assist:
    """An assist of the levels, channels and classes that a dry pass of the student shows."""
    features = student.features
    pyramid: list[Tensor] = features["assist"]
    first, last = pyramid_levels(pyramid, features["frame"])
    levels = first, min(first + LEVELS - 1, last)
    classes = class_count(student.model, features)
    return Assist(levels, pyramid[0].shape[1], classes, width).to(pyramid[0].device)


def trained_copy(module: nn.Module) -> nn.Module:
    """A copy of a teacher's module to be trained, without the hooks by which it is read.

    Those hold the whole teacher, which would be copied with them.
    """
    hooks = [h for m in module.modules() for h in (m._forward_hooks, m._forward_pre_hooks)]
    return copy.deepcopy(module, {id(h): OrderedDict() for h in hooks}).requires_grad_()


def hidden_layers(box_head: nn.Module, pooled: Tensor) -> list[Tensor]:
    """The output of every fully connected layer after its ReLU, or of another box head as a whole.

    The published code's ReLU overwrites what it hooks, so that its features, too, are behind it.

    Args:
        box_head: The box head of an assist or a teacher.
        pooled: The features of the regions, (R, C, 7, 7).

    Returns:
        The output of each layer, (R, width).
    """
    if not isinstance(box_head, TwoMLPHead):
        return [box_head(pooled)]
    first = F.relu(box_head.fc6(pooled.flatten(1)))
    return [first, F.relu(box_head.fc7(first))]
