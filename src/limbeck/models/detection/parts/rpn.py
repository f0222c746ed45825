"""The region proposal network, with the numerics of a preset."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import rpn
from torchvision.models.detection.anchor_utils import AnchorGenerator

from limbeck.models.detection.parts.box_coder import box_coder
from limbeck.models.detection.parts.heads import RPNHead
from limbeck.models.detection.parts.matcher import IGNORED, match_anchors, matcher
from limbeck.presets import FasterRCNNPreset

_SAMPLES = 256  # the anchors of each image that the losses are computed of


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
            positive_fraction=0.5,
            pre_nms_top_n={"training": 2000, "testing": 1000},
            post_nms_top_n={"training": preset.rpn_proposals, "testing": 1000},
            nms_thresh=0.7,
        )
        self.preset = preset
        self.min_size = preset.rpn_min_size
        self.proposal_matcher = matcher(preset, 0.7, 0.3, least=0.3)
        self.box_coder = box_coder(preset, (1.0, 1.0, 1.0, 1.0))

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
        if self.preset.box_loss == "smooth_l1":
            losses: tuple[Tensor, Tensor] = super().compute_loss(
                objectness, pred_bbox_deltas, labels, regression_targets
            )
            return losses
        positives, negatives = self.fg_bg_sampler(labels)
        positive, negative = torch.cat(positives).bool(), torch.cat(negatives).bool()
        sampled = positive | negative
        target = torch.cat(regression_targets)[positive]
        box_loss = F.l1_loss(pred_bbox_deltas[positive], target, reduction="sum")
        objectness_loss = F.binary_cross_entropy_with_logits(
            objectness.flatten()[sampled], torch.cat(labels)[sampled], reduction="sum"
        )
        # mmdetection counts at least one positive and one negative in each image.
        count: Tensor | int = _SAMPLES * len(labels)
        if self.preset.rpn_normaliser == "sampled":
            count = torch.stack([mask.sum() for mask in positives + negatives]).clamp(min=1).sum()
        return objectness_loss / count, box_loss / count
