"""The box head's sampling, losses and detections with the habits of a preset."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import roi_heads

from limbeck.models.detection.parts.box_coder import box_coder
from limbeck.presets import Preset

Detections = list[dict[str, Tensor]]
DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


class RoIHeads(roi_heads.RoIHeads):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's (Girshick, arXiv 1504.08083), with the preset's box loss and decoding.

    Args:
        stock: torchvision's, whose parts are taken over.
        preset: of the detector.

    Attributes:
        beta: where the smooth L1 loss becomes linear, 0 for L1; none: torchvision's own loss.
    """

    def __init__(self, stock: roi_heads.RoIHeads, preset: Preset) -> None:
        super().__init__(
            stock.box_roi_pool,
            stock.box_head,
            stock.box_predictor,
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=512,
            positive_fraction=0.25,
            bbox_reg_weights=DELTA_WEIGHTS,
            score_thresh=stock.score_thresh,
            nms_thresh=stock.nms_thresh,
            detections_per_img=stock.detections_per_img,
        )
        self.preset = preset
        self.box_coder = box_coder(preset, DELTA_WEIGHTS)
        self.beta = None if preset.box_loss == "smooth_l1" else 0.0

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[Detections, dict[str, Tensor]]:
        """Detections of each image in evaluation mode, losses in training mode."""
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
    logits: Tensor, regression: Tensor, labels: Tensor, deltas: Tensor, beta: float = 0.0
) -> dict[str, Tensor]:
    """Cross-entropy of all regions, and L1 of the positive ones, both divided by all.

    Args:
        logits: (R, K + 1), background first.
        regression: (R, 4 * (K + 1)) predicted deltas.
        labels: (R,), 0 is the background.
        deltas: (R, 4) encoded ground truth.
        beta: deltas that differ by less have a quadratic loss (smooth L1).
    """
    count = max(len(labels), 1)
    positive = torch.where(labels > 0)[0]
    predicted = regression.view(*logits.shape, 4)[positive, labels[positive]]
    return {
        "loss_classifier": F.cross_entropy(logits, labels, reduction="sum") / count,
        "loss_box_reg": F.smooth_l1_loss(predicted, deltas[positive], reduction="sum", beta=beta)
        / count,
    }
