"""YOLOv2 (Redmon and Farhadi, arXiv:1612.08242) of any width, with the loss of darknet's program.

Every anchor has a box whose centre stays in the anchor's cell, the probability of an object, which
learns the IoU of that box, and a distribution over the classes. With the offsets and sides
(t_x, t_y, t_w, t_h) of the anchor of width a_w in a column of the map (section 2 of the paper):

    x = (column + sigmoid(t_x)) * 32,    w = a_w * exp(t_w),    y and h likewise
    score = sigmoid(t_o) * softmax(classes)
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from limbeck.frame import Extent
from limbeck.models import darknet19
from limbeck.models.darknet19 import STAGES, convolution, scaled
from limbeck.models.detection.grid.anchors import GridAnchors
from limbeck.models.detection.grid.detector import (
    Found,
    GridBackbone,
    GridDetector,
    Predictions,
    Targets,
    fixed_size_transform,
    iou,
)
from limbeck.models.detection.settling import settle
from limbeck.models.norms import Norm, convert_norms

Passthrough = Literal["darknet", "space_to_depth"]

IMAGE_SIZE = (416, 416)  # (height, width), pixels
# (width, height), pixels, of yolov2-voc.cfg at 416 x 416, which states them in cells of 32 pixels.
VOC_ANCHORS = (
    (42.3072, 55.4064), (102.168, 128.30208), (161.78784, 259.16544), (303.07584, 154.89696),
    (359.5648, 320.2272),
)  # fmt: skip
LEVEL = 5  # the map's stride is 2**5 pixels
_STRIDE = 2**LEVEL
_PASSED = 64  # channels that are passed on from stride 16, at width 1
_OBJECT, _NO_OBJECT, _COORDINATES, _PRIOR = 5.0, 1.0, 1.0, 0.01  # weights of the loss
_RIGHT = 0.6  # IoU with an object above which an anchor without one is left alone
_WARM_UP = 12_800  # images during which anchors without an object are pulled to their prior
_BLOCK = 128  # objects that all anchors are compared with at a time
_LARGEST = math.log(1000 / 16)  # of the logarithm of a side over the anchor's, as in torchvision


class YOLOv2(GridDetector):
    """YOLOv2: see :class:`limbeck.models.detection.grid.detector.GridDetector` for its use.

    Args:
        width: factor on the channels of every layer; published are 1, and of imitated students
            0.25 and 0.15.
        num_classes: foreground classes; labels count from 1. There is no class for the background.
        weights: what :func:`limbeck.models.load_weights` takes: a student's folder, or the folder
            of a ``Classifier`` of ``limbeck:darknet19``, which fills the trunk; one of darknet's
            files, whole or of the trunk alone. These do not say their anchors: those of
            ``yolov2.weights`` (COCO) are the ones in its cfg, times 32. None: initialised afresh.
        image_size: (height, width) in evaluation mode, pixels; none: as the weights say, otherwise
            416 x 416.
        anchor_shapes: (width, height) of the anchors, pixels, at that size; none: as the weights
            say, otherwise those published for VOC.
        passthrough: how cells of stride 16 become channels of stride 32: ``space_to_depth``, the
            four within a cell, as the paper has it; ``darknet``, as published weights were
            trained, see :func:`darknet_reorganised`. None: as the weights say, otherwise
            ``space_to_depth``.
        norm: of the batch normalisations, see :func:`limbeck.models.norms.convert_norms`.
        mean: of the input channels, RGB in [0, 1]; none: as the weights say, otherwise 0, as
            darknet does not normalise.
        std: likewise, 1.
        score_threshold: below which a class of an anchor is no detection.
        nms_threshold: IoU above which the lower of two detections of a class is dropped.
        topk_candidates: of an image, classes of anchors that enter NMS.
        detections_per_image: at most.

    Raises:
        ValueError: An argument does not suit; it is named.
    """

    numerics: ClassVar[Mapping[str, Any]] = {
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "image_size": IMAGE_SIZE,
        "anchor_shapes": VOC_ANCHORS,
        "passthrough": "space_to_depth",
    }
    backbone: "Backbone"
    seen: Tensor

    def __init__(
        self,
        width: float,
        num_classes: int,
        *,
        weights: str | Path | None = None,
        image_size: Extent | None = None,
        anchor_shapes: Sequence[Sequence[float]] | None = None,
        passthrough: Passthrough | None = None,
        norm: Norm = "trained",
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        score_threshold: float = 0.005,
        nms_threshold: float = 0.45,
        topk_candidates: int = 1000,
        detections_per_image: int = 300,
    ) -> None:
        opened, settled = settle(YOLOv2, locals())
        super().__init__()
        height, columns = settled["image_size"]
        self.image_size = (height, columns)
        self.transform = fixed_size_transform(
            self.image_size, _STRIDE, settled["mean"], settled["std"]
        )
        self.anchor_generator = CellAnchors(settled["anchor_shapes"])
        self.backbone = Backbone(width, settled["passthrough"])
        darknet19.initialise(self.backbone)
        convert_norms(self.backbone, norm)
        per_cell = len(self.anchor_generator.shapes)
        self.head = nn.Conv2d(self.backbone.out_channels, per_cell * (5 + num_classes), 1)
        nn.init.normal_(self.head.weight, std=0.01)  # boxes begin as the anchors
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)
        # Images trained on, of all processes.
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.topk_candidates = topk_candidates
        self.detections_per_image = detections_per_image
        self.complete(settled, (LEVEL,), opened)

    def split(self, predicted: Tensor) -> Predictions:
        """(B, channels, H, W): of each anchor in turn x, y, w, h, the object and the classes."""
        by_cell = predicted.permute(0, 2, 3, 1)  # (B, H, W, channels)
        by_anchor = by_cell.reshape(len(predicted), -1, 5 + self.num_classes)  # (B, N, 5 + C)
        return Predictions(by_anchor[..., 5:], by_anchor[..., 4], by_anchor[..., :4])

    def decode(
        self, predictions: Predictions, anchors: Tensor, extent: Extent
    ) -> tuple[Tensor, Tensor]:
        """Boxes (B, N, 4) and scores (B, N, classes)."""
        sure = predictions.confidence.sigmoid()
        scores = predictions.logits.softmax(-1) * sure[..., None]
        return decoded(predictions.deltas, anchors), scores

    def compute_loss(
        self, targets: Targets, predictions: Predictions, anchors: Tensor, extent: Extent
    ) -> dict[str, Tensor]:
        """The region loss, whose gradients are darknet's.

        Each object has the anchor whose shape has the greatest IoU with its own, in the cell that
        holds its centre; of several objects with one anchor the last has it. Summed over an image
        and its mean over the images:

        * ``coordinates``: half the squared errors of sigmoid(t_x), sigmoid(t_y), t_w, t_h of these
          anchors, times 2 less the part of the image that the object takes;
        * ``confidence``: half the squared error of sigmoid(t_o), times 5 with the IoU of the
          decoded box for a target, without its gradient; of all other anchors, times 1 with the
          target 0, unless their decoded box has an IoU over 0.6 with any object;
        * ``classification``: the cross-entropy of the classes of these anchors;
        * ``prior``: for the first 12,800 images, of all other anchors 0.01 times half the squared
          errors of their coordinates from those of the anchor itself.
        """
        boxes, labels = _padded(targets)
        owner = assign(boxes, labels, anchors, self.anchor_generator.shapes, extent)
        has_object = owner >= 0  # (B, N)
        own = owner.clamp(min=0)
        with torch.no_grad():
            found = decoded(predictions.deltas, anchors)
            right = _on_objects(found, boxes)
            given = boxes.gather(1, own[..., None].expand(-1, -1, 4))
            given = torch.where(has_object[..., None], given, anchors)  # else the prior
            overlap = iou(found, given)
            share = (given[..., 2:] - given[..., :2]).prod(dim=-1) / (extent[0] * extent[1])

        coordinates = _coordinate_loss(predictions.deltas, given, anchors)  # (B, N)
        sure = predictions.confidence.sigmoid()
        wrong = torch.where(right, 0.0, _NO_OBJECT * sure.square())
        confidence = torch.where(has_object, _OBJECT * (sure - overlap).square(), wrong) / 2
        column = (labels.gather(1, own) - 1).clamp(min=0)
        likelihood = predictions.logits.log_softmax(-1).gather(-1, column[..., None])[..., 0]

        warm_up = self.seen < _WARM_UP
        processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        self.seen += len(targets) * processes
        prior = torch.where(warm_up & ~has_object, _PRIOR * coordinates, 0.0)
        weighted = _COORDINATES * (2 - share) * coordinates
        return {
            "coordinates": torch.where(has_object, weighted, 0.0).sum() / len(targets),
            "confidence": confidence.sum() / len(targets),
            "classification": torch.where(has_object, -likelihood, 0.0).sum() / len(targets),
            "prior": prior.sum() / len(targets),
        }

    def candidates(self, boxes: Tensor, scores: Tensor) -> Found:
        """Every class of an anchor that scores above the threshold; the best of these."""
        best, order = scores.flatten().topk(min(self.topk_candidates, scores.numel()))
        kept = best > self.score_threshold
        best, order = best[kept], order[kept]
        anchor, column = order // self.num_classes, order % self.num_classes
        return {"boxes": boxes[anchor], "scores": best, "labels": column + 1}

    def suppress(self, found: Found, content: Sequence[int]) -> Found:
        """Non-maximum suppression, and so many of the image at most."""
        kept = super().suppress(found, content)
        return {name: value[: self.detections_per_image] for name, value in kept.items()}

    def without_limbeck(self) -> None:
        """No other library has this network."""


class Backbone(GridBackbone):
    """Darknet-19's trunk, and what the detector adds to it: its last map is what is imitated.

    In the order of darknet's files.

    Args:
        width: factor on the channels.
        passthrough: see :class:`YOLOv2`.

    Raises:
        ValueError: ``width`` leaves a layer without channels, or darknet's way does not suit it.
    """

    def __init__(self, width: float, passthrough: Passthrough) -> None:
        super().__init__()
        if passthrough not in get_args(Passthrough):
            raise ValueError(
                f"passthrough={passthrough!r}: expected one of {', '.join(get_args(Passthrough))}."
            )
        fine, coarse, passed = (scaled(n, width) for n in (STAGES[4][-1], STAGES[5][-1], _PASSED))
        if passthrough == "darknet" and passed % 4:
            raise ValueError(
                f"passthrough='darknet' at width={width}: {passed} channels are passed on; "
                "expected a multiple of 4. Take passthrough='space_to_depth', or another width."
            )
        self.features = darknet19.trunk(width)
        self.added = nn.Sequential(convolution(coarse, coarse, 3), convolution(coarse, coarse, 3))
        self.passed = convolution(fine, passed, 1)
        self.fused = convolution(4 * passed + coarse, coarse, 3)
        self.passthrough = passthrough
        self.out_channels = coarse

    @property
    def trunk(self) -> nn.Module:
        """What ImageNet's classifier has, too."""
        return self.features

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), normalised, of sides that are multiples of 32 -> (B, C, H/32, W/32)."""
        *first, last = self.features
        fine = images
        for stage in first:
            fine = stage(fine)
        coarse = self.added(last(fine))
        passed = self.passed(fine)
        if self.passthrough == "darknet":
            passed = darknet_reorganised(passed)
        else:
            passed = F.pixel_unshuffle(passed, 2)
        feature: Tensor = self.fused(torch.cat([passed, coarse], dim=1))
        return feature


def darknet_reorganised(feature: Tensor) -> Tensor:
    """Darknet's layer ``reorg``: (B, C, H, W) -> (B, 4 * C, H / 2, W / 2).

    It takes the memory of (C, H, W) for that of (C / 4, 2 * H, 2 * W), collects the four neighbours
    there, and so mixes places of the map: not what its authors meant, but what published weights
    were trained with.
    """
    count, channels, height, width = feature.shape
    as_read = feature.reshape(count, channels * height // 4, 2, width, 2)
    neighbours = as_read.permute(0, 2, 4, 1, 3)
    return neighbours.reshape(count, 4 * channels, height // 2, width // 2)


class CellAnchors(GridAnchors):
    """Anchors in the middle of their cells."""

    def centres(self, cells: int, side: int) -> Tensor:
        """``(i + 0.5) * side / cells``."""
        return (torch.arange(cells, dtype=torch.float64) + 0.5) * side / cells


def decoded(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (..., N, 4), xyxy, from what is predicted (..., N, 4) and the anchors (N, 4)."""
    middle = (anchors[..., :2] + anchors[..., 2:]) / 2
    centres = middle + (deltas[..., :2].sigmoid() - 0.5) * _STRIDE
    sides = anchors[..., 2:] - anchors[..., :2]
    half = sides * deltas[..., 2:].clamp(max=_LARGEST).exp() / 2
    return torch.cat([centres - half, centres + half], dim=-1)


def assign(
    boxes: Tensor,
    labels: Tensor,
    anchors: Tensor,
    shapes: Sequence[Sequence[float]],
    extent: Extent,
) -> Tensor:
    """Which object of its image each anchor has: (B, N), -1 for none.

    Args:
        boxes: (B, M, 4), xyxy, pixels.
        labels: (B, M), 0 where there is no object.
        anchors: (N, 4), by cell, row after row, then by shape.
        shapes: (width, height) of each of the K anchors of a cell.
        extent: (height, width) of the frame, pixels.
    """
    rows, columns = (side // _STRIDE for side in extent)
    at_origin = F.pad(boxes.new_tensor(shapes), (2, 0))  # (K, 4)
    sides = F.pad(boxes[..., 2:] - boxes[..., :2], (2, 0))
    shape = iou(sides[:, :, None], at_origin).argmax(dim=2)  # (B, M), the first of equal ones
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    last = centres.new_tensor([columns - 1, rows - 1])  # on the border: of the last cell
    column, row = (centres / _STRIDE).floor().clamp(min=0).minimum(last).long().unbind(dim=-1)
    anchor = (row * columns + column) * len(shapes) + shape
    numbers = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)
    numbers = torch.where(labels > 0, numbers, -1)
    nobody = numbers.new_full((len(labels), len(anchors)), -1)
    return nobody.scatter_reduce(1, anchor, numbers, "amax")


def _padded(targets: Targets) -> tuple[Tensor, Tensor]:
    """Boxes (B, M, 4) and labels (B, M), 0 where there is no object: at the end of every image."""
    boxes = [F.pad(target["boxes"], (0, 0, 0, 1)) for target in targets]
    labels = [F.pad(target["labels"], (0, 1)) for target in targets]
    return pad_sequence(boxes, batch_first=True), pad_sequence(labels, batch_first=True)


def _on_objects(found: Tensor, boxes: Tensor) -> Tensor:
    """Which of (B, N, 4) have an IoU over 0.6 with any object (B, M, 4) of their image: (B, N)."""
    right = torch.zeros(found.shape[:2], dtype=torch.bool, device=found.device)
    for block in torch.split(boxes, _BLOCK, dim=1):  # a crowd of 1900 at once is a GB
        right |= (iou(found[:, :, None], block[:, None]) > _RIGHT).any(dim=2)
    return right


def _coordinate_loss(deltas: Tensor, boxes: Tensor, anchors: Tensor) -> Tensor:
    """Half the squared errors of each anchor's four values: (B, N, 4), (B, N, 4) -> (B, N)."""
    centres, middle = (each[..., :2] + each[..., 2:] for each in (boxes, anchors))
    sides, priors = (each[..., 2:] - each[..., :2] for each in (boxes, anchors))
    offsets = (centres - middle) / (2 * _STRIDE) + 0.5  # from the cell's corner, in cells
    expected = torch.cat([offsets, (sides / priors).log()], dim=-1)
    found = torch.cat([deltas[..., :2].sigmoid(), deltas[..., 2:]], dim=-1)
    return (found - expected).square().sum(dim=-1) / 2
