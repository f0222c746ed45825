"""The region proposal network, with the numerics of a preset."""

from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import rpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import clip_boxes_to_image

from limbeck.models.detection.parts.box_coder import box_coder
from limbeck.models.detection.parts.heads import RPNHead
from limbeck.models.detection.parts.matcher import IGNORED, match_anchors, matcher
from limbeck.models.detection.parts.selection import (
    BalancedSampler,
    indices_of_rows,
    suppressed,
)
from limbeck.presets import FasterRCNNPreset

_SAMPLES, _POSITIVE_SHARE = 256, 0.5  # the anchors of each image that the losses are computed of


class RegionProposalNetwork(rpn.RegionProposalNetwork):  # type: ignore[misc]  # untyped
    """torchvision's region proposal network, with the matching and the losses of a preset.

    The paper is Ren et al., arXiv 1506.01497, section 3.1.

    Args:
        anchor_generator: The generator of the anchors on the maps.
        head: The head that scores the anchors and refines them.
        preset: The numerics of the detector.
    """

    def __init__(
        self, anchor_generator: AnchorGenerator, head: RPNHead, preset: FasterRCNNPreset
    ) -> None:
        super().__init__(
            anchor_generator,
            head,
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=_SAMPLES,
            positive_fraction=_POSITIVE_SHARE,
            pre_nms_top_n={"training": 2000, "testing": 1000},
            post_nms_top_n={"training": preset.rpn_proposals, "testing": 1000},
            nms_thresh=0.7,
        )
        self.preset = preset
        self.min_size = preset.rpn_min_size
        self.proposal_matcher = matcher(preset, 0.7, 0.3, least=0.3)
        self.box_coder = box_coder(preset, (1.0, 1.0, 1.0, 1.0))
        self.fg_bg_sampler = BalancedSampler(_SAMPLES, _POSITIVE_SHARE)

    def match(self, target: dict[str, Tensor], anchors: Tensor) -> Tensor:
        """Which object of one image every anchor has to predict.

        Args:
            target: The ``boxes`` (M, 4) of the image.
            anchors: The anchors of the image, (N, 4).

        Returns:
            For every anchor (N,) the index of its object, ``NEGATIVE`` or ``IGNORED``, see
            :mod:`limbeck.models.detection.parts.matcher`.
        """
        return match_anchors(self.proposal_matcher, target, anchors)

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Give every anchor what it has to predict.

        Args:
            anchors: The anchors of each image, (N, 4).
            targets: The ``boxes`` (M, 4) of each image.

        Returns:
            For each image the labels of the anchors (N,), which are 1 for an object, 0 for the
            background and -1 for an anchor that is ignored; and the box that belongs to each (N,
            4).
        """
        labels, boxes = [], []
        for of_image, target in zip(anchors, targets, strict=True):
            matched = self.match(target, of_image)
            labels.append((matched >= 0).float().masked_fill(matched == IGNORED, -1.0))
            truth = target["boxes"]
            boxes.append(truth[matched.clamp(min=0)] if len(truth) else torch.zeros_like(of_image))
        return labels, boxes

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The losses of a random sample of the anchors.

        Args:
            objectness: The logits of all anchors, (B * N, 1).
            pred_bbox_deltas: The deltas of all anchors, (B * N, 4).
            labels: The labels of each image's anchors, (N,), as :meth:`assign_targets_to_anchors`
                gives them.
            regression_targets: The encoded boxes that each image's anchors have to predict, (N, 4).

        Returns:
            The loss of the objectness and the loss of the boxes.
        """
        positives, negatives = self.fg_bg_sampler(labels)
        positive, negative = (_over_batch(each, labels) for each in (positives, negatives))
        sampled = torch.cat([positive, negative])
        predicted, target = pred_bbox_deltas[positive], torch.cat(regression_targets)[positive]
        logits, label = objectness.flatten(), torch.cat(labels)
        if self.preset.box_loss == "smooth_l1":
            box_loss = F.smooth_l1_loss(predicted, target, beta=1 / 9, reduction="sum")
            objectness_loss = F.binary_cross_entropy_with_logits(logits[sampled], label[sampled])
            return objectness_loss, box_loss / len(sampled)
        sampled = sampled.sort()[0]
        box_loss = F.l1_loss(predicted, target, reduction="sum")
        objectness_loss = F.binary_cross_entropy_with_logits(
            logits[sampled], label[sampled], reduction="sum"
        )
        # mmdetection counts at least one positive and one negative in each image.
        count = _SAMPLES * len(labels)
        if self.preset.rpn_normaliser == "sampled":
            count = sum(max(len(of_image), 1) for of_image in positives + negatives)
        return objectness_loss / count, box_loss / count

    def filter_proposals(
        self,
        proposals: Tensor,
        objectness: Tensor,
        image_shapes: list[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Choose the best boxes of each level, of which non-maximum suppression leaves some.

        They are torchvision's; the device is waited for once, and once for each image.

        Args:
            proposals: The boxes that are predicted for all anchors, (B, N, 4).
            objectness: The logits of all anchors, (B * N, 1).
            image_shapes: The (height, width) of each image's content, in pixels.
            num_anchors_per_level: The number of anchors of each level.

        Returns:
            The proposals of each image (R, 4), xyxy, best first, and their scores (R,).
        """
        objectness = objectness.detach().reshape(len(proposals), -1)
        best = self._get_top_n_idx(objectness, num_anchors_per_level)  # (B, n), level by level
        counts = [min(self.pre_nms_top_n(), count) for count in num_anchors_per_level]
        numbers = [torch.full_like(best[0, :n], level) for level, n in enumerate(counts)]
        level = torch.cat(numbers)
        scores = objectness.gather(1, best).sigmoid()
        chosen = proposals.gather(1, best[..., None].expand(-1, -1, 4))
        pairs = zip(chosen, image_shapes, strict=True)
        chosen = torch.stack([clip_boxes_to_image(boxes, shape) for boxes, shape in pairs])
        large = (chosen[..., 2:] - chosen[..., :2] >= self.min_size).all(dim=-1)
        rows = indices_of_rows(large & (scores >= self.score_thresh))
        kept_boxes, kept_scores = [], []
        for boxes, score, row in zip(chosen, scores, rows, strict=True):
            boxes, score = boxes[row], score[row]
            keep = suppressed(boxes, score, level[row], self.nms_thresh)[: self.post_nms_top_n()]
            kept_boxes.append(boxes[keep])
            kept_scores.append(score[keep])
        return kept_boxes, kept_scores


def _over_batch(indices: list[Tensor], labels: list[Tensor]) -> Tensor:
    """Indices within the anchors of each image, as indices into those of all images."""
    starts = accumulate((len(of_image) for of_image in labels[:-1]), initial=0)
    return torch.cat([of_image + start for of_image, start in zip(indices, starts, strict=True)])
