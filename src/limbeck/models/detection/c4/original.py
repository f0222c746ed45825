"""Faster R-CNN on one map as Fine-grained Feature Imitation has it (Wang et al., CVPR 2019).

Its code is built on jwyang/faster-rcnn.pytorch. Boxes here are limbeck's, exclusive, see
:mod:`limbeck.models.detection.c4.inclusive_boxes`. What the original does and this does not: it
fills proposals up to their number with empty ones; in a batch it takes the size of the first image,
and the number of sampled anchors of the last, for all.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import batched_nms

from limbeck.models.detection.c4.inclusive_boxes import (
    InclusiveBoxCoder,
    OverlappingMatcher,
    clip,
    exclusive,
    inclusive,
    iou,
    is_pixel,
)
from limbeck.models.detection.parts.heads import BoxPredictor, RPNHead
from limbeck.models.detection.parts.matcher import IGNORED, NEGATIVE, PADDED_SIZE
from limbeck.models.detection.parts.roi_heads import DELTA_WEIGHTS, Detections, RoIHeads
from limbeck.models.detection.parts.rpn import RegionProposalNetwork
from limbeck.models.detection.parts.selection import both_sides
from limbeck.models.detection.parts.transform import ReferenceTransform
from limbeck.presets import FasterRCNNPreset

_REGIONS = 256  # the number of regions of each image that the box head is trained on
_POSITIVES = 64  # the greatest number of positive ones among them
_SCORES_STD, _BOXES_STD = 0.01, 0.001


class PairRPNHead(RPNHead):
    """A head of the RPN with two scores for each anchor: all backgrounds, then all objects.

    A softmax over the pair is a sigmoid of their difference, which is what this head gives.

    Args:
        channels: The number of channels of the map.
        anchors: The number of anchors of each cell.
    """

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__(channels, anchors)
        self.cls_logits = nn.Conv2d(channels, 2 * anchors, 1)
        nn.init.normal_(self.cls_logits.weight, std=_SCORES_STD)
        nn.init.zeros_(self.cls_logits.bias)  # type: ignore[arg-type]

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """All levels' maps -> each level's objectness (B, A, H, W) and deltas (B, 4 * A, H, W)."""
        scores, deltas = super().forward(x)
        pairs = [of_level.chunk(2, dim=1) for of_level in scores]
        return [foreground - background for background, foreground in pairs], deltas


def initialise(predictor: BoxPredictor) -> BoxPredictor:
    """Give the last layers of the box head the original's values: normal weights, and biases of 0.

    Args:
        predictor: The last layers, which are changed in place.

    Returns:
        The last layers.
    """
    for layer, std in ((predictor.cls_score, _SCORES_STD), (predictor.bbox_pred, _BOXES_STD)):
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
    return predictor


class FGFIRegionProposalNetwork(RegionProposalNetwork):
    """The region proposal network of the original, which trains anchors inside of the image.

    Args:
        anchor_generator: The generator of the anchors on the map.
        head: The head that scores the anchors and refines them.
        preset: The numerics of the detector.
    """

    def __init__(
        self, anchor_generator: AnchorGenerator, head: RPNHead, preset: FasterRCNNPreset
    ) -> None:
        super().__init__(anchor_generator, head, preset)
        self.proposal_matcher = OverlappingMatcher(0.7, 0.3)
        self.box_coder = InclusiveBoxCoder((1.0, 1.0, 1.0, 1.0))

    def match(self, target: dict[str, Tensor], anchors: Tensor) -> Tensor:
        """Which object every anchor has to predict; those across the image's border are ignored."""
        truth = target["boxes"]
        within = (anchors[:, :2] >= 0) & (anchors[:, 2:] <= target[PADDED_SIZE].flip(0))
        inside = within.all(dim=1)
        if len(truth):
            # An anchor outside is no box's best, and is ignored in the end.
            overlaps = iou(truth, anchors).masked_fill(~inside, -1.0)
            matched: Tensor = self.proposal_matcher(overlaps)
        else:
            matched = torch.full((len(anchors),), NEGATIVE, device=anchors.device)
        return matched.masked_fill(~inside, IGNORED)

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The losses of torchvision, or 0 where no anchor of the batch is inside of its image."""
        if not any((of_image >= 0).any() for of_image in labels):
            return 0 * objectness.sum(), 0 * pred_bbox_deltas.sum()
        return super().compute_loss(objectness, pred_bbox_deltas, labels, regression_targets)

    def filter_proposals(
        self,
        proposals: Tensor,
        objectness: Tensor,
        image_shapes: list[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Choose proposals as torchvision does, of boxes that are clipped so that none is small."""
        clipped = [clip(b, size) for b, size in zip(proposals, image_shapes, strict=True)]
        kept: tuple[list[Tensor], list[Tensor]] = super().filter_proposals(
            torch.stack(clipped), objectness, image_shapes, num_anchors_per_level
        )
        return kept


class FGFIRoIHeads(RoIHeads):
    """The box head's sampling, losses and detections as the original has them.

    Args:
        stock: The module whose parts are taken over.
        preset: The numerics of the detector.
    """

    def __init__(self, stock: RoIHeads, preset: FasterRCNNPreset) -> None:
        super().__init__(stock, preset)
        self.box_coder = InclusiveBoxCoder(DELTA_WEIGHTS)
        self.beta = 1.0

    def assign_targets_to_proposals(
        self, proposals: list[Tensor], gt_boxes: list[Tensor], gt_labels: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Give every region what it has to predict.

        Args:
            proposals: The regions of each image, (R, 4).
            gt_boxes: The boxes of the objects of each image, (M, 4).
            gt_labels: The labels of these objects, (M,).

        Returns:
            For each image the index of every region's object (R,); and the label of every region
            (R,), which is 0 for the background, and -1 for a region that is never drawn.
        """
        matched, labels = [], []
        for boxes, truth, classes in zip(proposals, gt_boxes, gt_labels, strict=True):
            if len(truth):
                best, index = iou(truth, boxes).max(dim=0)
                label = torch.where(best >= self.proposal_matcher.high_threshold, classes[index], 0)
            else:
                index = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
                label = index
            matched.append(index)
            labels.append(label.masked_fill(is_pixel(boxes), -1))
        return matched, labels

    def subsample(self, labels: list[Tensor]) -> list[Tensor]:
        """The indices of the regions to train on, for each image."""
        return [_drawn(*sides) for sides in zip(*both_sides(labels), strict=True)]

    def postprocess_detections(
        self,
        class_logits: Tensor,
        box_regression: Tensor,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The boxes (D, 4), the scores (D,) and the labels (D,) of each image's detections."""
        counts = [len(boxes) for boxes in proposals]
        decoded = self.box_coder.decode(box_regression, proposals)
        parts = (torch.split(value, counts) for value in (decoded, F.softmax(class_logits, -1)))
        found = [self._suppressed(*each) for each in zip(*parts, image_shapes, strict=True)]
        boxes, scores, labels = ([each[k] for each in found] for k in range(3))
        return boxes, scores, labels

    def _suppressed(
        self, boxes: Tensor, scores: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The detections of one image, from the boxes (R, K + 1, 4) and scores (R, K + 1)."""
        region, label = torch.where(scores[:, 1:] > self.score_thresh)
        label = label + 1
        boxes, scores = clip(boxes[region, label], size), scores[region, label]
        kept = batched_nms(boxes, scores, label, self.nms_thresh)[: self.detections_per_img]
        return boxes[kept], scores[kept], label[kept]


def _drawn(positive: Tensor, negative: Tensor) -> Tensor:
    """256 of the regions to train on, a quarter of them positive at most.

    Negatives are drawn with replacement. Where there are none, positives are drawn in that way;
    where there are neither, no region is drawn.
    """
    if not len(negative):
        return _repeatedly(positive, _REGIONS)
    shuffled = torch.randperm(len(positive), device=positive.device)
    chosen = positive[shuffled[:_POSITIVES]]
    return torch.cat([chosen, _repeatedly(negative, _REGIONS - len(chosen))])


def _repeatedly(candidates: Tensor, count: int) -> Tensor:
    if not len(candidates):
        return candidates
    return candidates[torch.randint(len(candidates), (count,), device=candidates.device)]


class FGFITransform(ReferenceTransform):
    """The transform of the original, which scales inclusive coordinates back."""

    def postprocess(
        self,
        result: Detections,
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> Detections:
        """Bring boxes from the network's frame into that of the images as they came.

        Args:
            result: The detections of each image.
            image_shapes: The (height, width) of each resized image, in pixels.
            original_image_sizes: The (height, width) of each image as it came, in pixels.

        Returns:
            The detections, with scaled boxes. In training mode they are as they were.
        """
        if self.training:
            return result
        scaled = [found | {"boxes": inclusive(found["boxes"])} for found in result]
        scaled = super().postprocess(scaled, image_shapes, original_image_sizes)
        return [found | {"boxes": exclusive(found["boxes"])} for found in scaled]
