"""The box head's sampling, losses and detections, with the numerics of a preset.

And what any two-stage detector's box head, torchvision's own too, has to say of given regions.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import roi_heads

from limbeck.models.detection.parts.box_coder import box_coder
from limbeck.models.detection.parts.selection import BalancedSampler
from limbeck.presets import FasterRCNNPreset

Detections = list[dict[str, Tensor]]
DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
_SAMPLES, _POSITIVE_SHARE = 512, 0.25  # the regions of each image that are trained on


class RoIHeads(roi_heads.RoIHeads):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ``RoIHeads`` (Girshick, arXiv 1504.08083) with a preset's box loss and coder.

    Args:
        stock: torchvision's module, whose parts are taken over.
        preset: The numerics of the detector.

    Attributes:
        beta: The difference of deltas at which the smooth L1 loss becomes linear; 0 makes it L1.
            None: torchvision's own loss is computed.
    """

    beta: float | None

    def __init__(self, stock: roi_heads.RoIHeads, preset: FasterRCNNPreset) -> None:
        super().__init__(
            stock.box_roi_pool,
            stock.box_head,
            stock.box_predictor,
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=_SAMPLES,
            positive_fraction=_POSITIVE_SHARE,
            bbox_reg_weights=DELTA_WEIGHTS,
            score_thresh=stock.score_thresh,
            nms_thresh=stock.nms_thresh,
            detections_per_img=stock.detections_per_img,
        )
        self.preset = preset
        self.box_coder = box_coder(preset, DELTA_WEIGHTS)
        self.fg_bg_sampler = BalancedSampler(_SAMPLES, _POSITIVE_SHARE)
        self.beta = None if preset.box_loss == "smooth_l1" else 0.0

    def subsample(self, labels: list[Tensor]) -> list[Tensor]:
        """The indices of the regions of each image to train on, ascending."""
        drawn = zip(*self.fg_bg_sampler(labels), strict=True)
        return [torch.cat(of_image).sort()[0] for of_image in drawn]

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[Detections, dict[str, Tensor]]:
        """Detections in evaluation mode, losses in training mode.

        Args:
            features: The maps (B, C, H, W), by their level.
            proposals: The regions of each image, (R, 4), xyxy, in pixels.
            image_shapes: The (height, width) of each image's content, in pixels.
            targets: The ``boxes`` (M, 4) and ``labels`` (M,) of each image, in training mode.

        Returns:
            The ``boxes`` (D, 4), ``scores`` (D,) and ``labels`` (D,) of each image, empty in
            training mode; and the losses by their names, empty in evaluation mode.
        """
        if not self.training or self.beta is None:
            result: tuple[Detections, dict[str, Tensor]] = super().forward(
                features, proposals, image_shapes, targets
            )
            return result
        proposals, _, labels, deltas = self.select_training_samples(proposals, targets)
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        logits, regression = self.box_predictor(self.box_head(pooled))
        losses = l1_losses(logits, regression, torch.cat(labels), torch.cat(deltas), self.beta)
        return [], losses


def l1_losses(
    logits: Tensor,
    regression: Tensor,
    labels: Tensor,
    deltas: Tensor,
    beta: float = 0.0,
    positive: Tensor | None = None,
) -> dict[str, Tensor]:
    """The cross-entropy of all regions and the L1 loss of positive ones, over the number of all.

    Args:
        logits: The logits of R regions, (R, K + 1), with the background first.
        regression: The predicted deltas for every class, (R, 4 * (K + 1)).
        labels: The label of each region, (R,). 0 is the background.
        deltas: The encoded ground truth of each region, (R, 4).
        beta: Deltas that differ by less than this have a quadratic loss (smooth L1).
        positive: The indices of the regions that are no background, ascending. Default (None): the
            device is waited for to find them.

    Returns:
        The losses ``loss_classifier`` and ``loss_box_reg``.
    """
    count = max(len(labels), 1)
    if positive is None:
        positive = torch.where(labels > 0)[0]
    predicted = regression.view(*logits.shape, 4)[positive, labels[positive]]
    return {
        "loss_classifier": F.cross_entropy(logits, labels, reduction="sum") / count,
        "loss_box_reg": F.smooth_l1_loss(predicted, deltas[positive], reduction="sum", beta=beta)
        / count,
    }


def class_logits(
    heads: roi_heads.RoIHeads,
    maps: Tensor | dict[str, Tensor],
    regions: list[Tensor],
    image_sizes: Sequence[tuple[int, int]],
) -> Tensor:
    """What a box head says of the classes of given regions.

    Args:
        heads: The part of a two-stage detector that holds its box head.
        maps: The output of the detector's backbone: the maps (B, C, H, W) by their level, or the
            only one.
        regions: The regions of each image, (R, 4), xyxy, in pixels of the frame.
        image_sizes: The (height, width) of each image's content, in pixels.

    Returns:
        The logits of the regions of all images, (sum of R, K + 1), with the background first.
    """
    named = {"0": maps} if isinstance(maps, Tensor) else maps  # as torchvision calls it
    pooled = heads.box_roi_pool(named, regions, list(image_sizes))
    logits: Tensor = heads.box_predictor(heads.box_head(pooled))[0]
    return logits


def region_labels(
    heads: roi_heads.RoIHeads, regions: list[Tensor], targets: Sequence[dict[str, Tensor]]
) -> Tensor:
    """The labels with which a box head is trained on regions that it has sampled.

    The sampling itself does not hand them on, and they follow from the boxes alone.

    Args:
        heads: The part of a two-stage detector that holds its box head.
        regions: The regions of each image, (R, 4), xyxy, in pixels of the frame.
        targets: The ``boxes`` (M, 4) and ``labels`` (M,) of each image, in the frame.

    Returns:
        The label of each region of all images, (sum of R,); 0 is the background.
    """
    pairs = list(zip(regions, targets, strict=True))
    boxes = [target["boxes"].to(of_image.dtype) for of_image, target in pairs]
    labels: list[Tensor]
    _, labels = heads.assign_targets_to_proposals(regions, boxes, [t["labels"] for _, t in pairs])
    return torch.cat(labels)
