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
from limbeck.models.detection.parts.transform import ReferenceTransform
from limbeck.presets import Preset

_REGIONS = 256  # of each image that the box head is trained on
_POSITIVES = 64  # of these, at most
_SCORES_STD, _BOXES_STD = 0.01, 0.001


class PairRPNHead(RPNHead):
    """Two scores for each anchor, of all backgrounds, then of all foregrounds.

    A softmax over the pair is a sigmoid of their difference, which this gives.

    Args:
        channels: of the map.
        anchors: of each cell.
    """

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__(channels, anchors)
        self.cls_logits = nn.Conv2d(channels, 2 * anchors, 1)
        nn.init.normal_(self.cls_logits.weight, std=_SCORES_STD)
        nn.init.zeros_(self.cls_logits.bias)  # type: ignore[arg-type]

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps of all levels -> objectness (B, A, H, W) and deltas (B, 4 * A, H, W) of each."""
        scores, deltas = super().forward(x)
        pairs = [of_level.chunk(2, dim=1) for of_level in scores]
        return [foreground - background for background, foreground in pairs], deltas


def initialise(predictor: BoxPredictor) -> BoxPredictor:
    """The original's initial values: normal, biases 0."""
    for layer, std in ((predictor.cls_score, _SCORES_STD), (predictor.bbox_pred, _BOXES_STD)):
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
    return predictor


class FGFIRegionProposalNetwork(RegionProposalNetwork):
    """The original's anchors inside the image, matching, and proposals.

    Args:
        anchor_generator: of the map.
        head: on the map.
        preset: of the detector.
    """

    def __init__(self, anchor_generator: AnchorGenerator, head: RPNHead, preset: Preset) -> None:
        super().__init__(anchor_generator, head, preset)
        self.proposal_matcher = OverlappingMatcher(0.7, 0.3)
        self.box_coder = InclusiveBoxCoder((1.0, 1.0, 1.0, 1.0))

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """For each image: 1, 0 or, ignored, -1 for every anchor (N,); its ground truth (N, 4)."""
        labels, boxes = [], []
        for of_image, target in zip(anchors, targets, strict=True):
            truth = target["boxes"]
            matched = torch.full((len(of_image),), IGNORED, device=of_image.device)
            within = (of_image[:, :2] >= 0) & (of_image[:, 2:] <= target[PADDED_SIZE].flip(0))
            inside = torch.where(within.all(dim=1))[0]
            if len(truth) and len(inside):
                matched[inside] = self.proposal_matcher(iou(truth, of_image[inside]))
            else:
                matched[inside] = NEGATIVE
            labels.append((matched >= 0).float().masked_fill(matched == IGNORED, -1.0))
            boxes.append(truth[matched.clamp(min=0)] if len(truth) else of_image)
        return labels, boxes

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """torchvision's, or 0 where no anchor of the batch is inside its image."""
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
        """torchvision's, of boxes that are clipped to pixels: none is dropped for its size."""
        clipped = [clip(b, size) for b, size in zip(proposals, image_shapes, strict=True)]
        kept: tuple[list[Tensor], list[Tensor]] = super().filter_proposals(
            torch.stack(clipped), objectness, image_shapes, num_anchors_per_level
        )
        return kept


class FGFIRoIHeads(RoIHeads):
    """The original's sampling, losses and detections.

    Args:
        stock: torchvision's, whose parts are taken over.
        preset: of the detector.
    """

    def __init__(self, stock: RoIHeads, preset: Preset) -> None:
        super().__init__(stock, preset)
        self.box_coder = InclusiveBoxCoder(DELTA_WEIGHTS)
        self.beta = 1.0

    def assign_targets_to_proposals(
        self, proposals: list[Tensor], gt_boxes: list[Tensor], gt_labels: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """For each image: index of the ground truth, and label or, never drawn, -1; each (N,)."""
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
        """Indices of the regions to train on, for each image."""
        return [_drawn(of_image) for of_image in labels]

    def postprocess_detections(
        self,
        class_logits: Tensor,
        box_regression: Tensor,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Boxes (D, 4), scores (D,) and labels (D,) of each image."""
        counts = [len(boxes) for boxes in proposals]
        decoded = self.box_coder.decode(box_regression, proposals)
        parts = (torch.split(value, counts) for value in (decoded, F.softmax(class_logits, -1)))
        found = [self._suppressed(*each) for each in zip(*parts, image_shapes, strict=True)]
        boxes, scores, labels = ([each[k] for each in found] for k in range(3))
        return boxes, scores, labels

    def _suppressed(
        self, boxes: Tensor, scores: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(R, K + 1, 4) and (R, K + 1) of one image -> its detections."""
        region, label = torch.where(scores[:, 1:] > self.score_thresh)
        label = label + 1
        boxes, scores = clip(boxes[region, label], size), scores[region, label]
        kept = batched_nms(boxes, scores, label, self.nms_thresh)[: self.detections_per_img]
        return boxes[kept], scores[kept], label[kept]


def _drawn(labels: Tensor) -> Tensor:
    """Indices of 256 regions: a quarter positive at most, negatives drawn with replacement.

    Where there are no negatives, positives are drawn so; where there is neither, none.
    """
    positive, negative = torch.where(labels > 0)[0], torch.where(labels == 0)[0]
    if not len(negative):
        return _repeatedly(positive, _REGIONS)
    shuffled = torch.randperm(len(positive), device=labels.device)
    chosen = positive[shuffled[:_POSITIVES]]
    return torch.cat([chosen, _repeatedly(negative, _REGIONS - len(chosen))])


def _repeatedly(candidates: Tensor, count: int) -> Tensor:
    if not len(candidates):
        return candidates
    return candidates[torch.randint(len(candidates), (count,), device=candidates.device)]


class FGFITransform(ReferenceTransform):
    """Inclusive coordinates are scaled back."""

    def postprocess(
        self,
        result: Detections,
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> Detections:
        """Boxes of the network's frame in that of the images as they were given."""
        if self.training:
            return result
        scaled = [found | {"boxes": inclusive(found["boxes"])} for found in result]
        scaled = super().postprocess(scaled, image_shapes, original_image_sizes)
        return [found | {"boxes": exclusive(found["boxes"])} for found in scaled]
