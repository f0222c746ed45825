"""What detectors with one dense head on a feature pyramid have in common."""

from typing import Protocol

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import batched_nms, clip_boxes_to_image

from limbeck.models.detection.detector import Detector
from limbeck.models.detection.parts.backbones import Backbone
from limbeck.presets import RetinaNetPreset


class Decoder(Protocol):
    """What makes boxes of what a head predicts."""

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """The boxes (n, 4), xyxy, of predictions (n, numbers of a box) for n anchors (n, 4)."""


class DenseDetector(Detector, detection.RetinaNet):  # type: ignore[misc]  # torchvision is untyped
    """A detector that runs as torchvision's ``RetinaNet``: a head on every cell, then NMS.

    Attributes:
        backbone: The trunk and the feature pyramid over it.
        preset: The numerics of the library whose outputs and losses this detector gives.
        head: What predicts the classes and the boxes of all anchors.
        anchor_generator: What makes the anchors of the maps.
        box_coder: What makes boxes of what the head predicts for the anchors.
        score_thresh: The score that a detection has to exceed.
        topk_candidates: The greatest number of detections of each level that enter NMS.
    """

    backbone: Backbone
    preset: RetinaNetPreset
    head: nn.Module
    anchor_generator: nn.Module
    box_coder: Decoder
    score_thresh: float
    topk_candidates: int

    def postprocess_detections(
        self,
        head_outputs: dict[str, list[Tensor]],
        anchors: list[list[Tensor]],
        image_shapes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Detections from what the head gives, in the network's frame.

        Args:
            head_outputs: The ``cls_logits`` (B, n, columns) of each level, and what its boxes are
                computed from, ``bbox_regression`` (B, n, numbers of a box).
            anchors: The anchors (n, 4) of each level of each image.
            image_shapes: The (height, width) of each image's content, in pixels.

        Returns:
            The ``boxes`` (D, 4), ``scores`` (D,) and ``labels`` (D,) of each image.
        """
        found = []
        for i, shape in enumerate(image_shapes):
            logits = [level[i] for level in head_outputs["cls_logits"]]
            deltas = [level[i] for level in head_outputs["bbox_regression"]]
            levels = map(self._candidates, logits, deltas, anchors[i])
            names = ("boxes", "scores", "labels")
            parts = map(torch.cat, zip(*levels, strict=True))
            found.append(self._suppress(dict(zip(names, parts, strict=True)), shape))
        return found

    def _candidates(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The boxes (n, 4), scores (n,) and labels (n,) of what scores best on one level."""
        columns = logits.shape[-1]
        scores = torch.sigmoid(logits).flatten()
        kept = torch.where(scores > self.score_thresh)[0]
        scores, order = scores[kept].topk(min(self.topk_candidates, len(kept)))
        kept = kept[order]
        anchor, column = kept // columns, kept % columns
        boxes = self.box_coder.decode_single(deltas[anchor], anchors[anchor])
        return boxes, scores, column if self.preset.unused_column else column + 1

    def _suppress(self, found: dict[str, Tensor], shape: tuple[int, int]) -> dict[str, Tensor]:
        """NMS within each class over all levels, with clipping before or after it."""
        if self.preset.clip_before_nms:
            found = self._clip(found, shape)
        keep = batched_nms(found["boxes"], found["scores"], found["labels"], self.nms_thresh)
        found = {name: value[keep[: self.detections_per_img]] for name, value in found.items()}
        return found if self.preset.clip_before_nms else self._clip(found, shape)

    def _clip(self, found: dict[str, Tensor], shape: tuple[int, int]) -> dict[str, Tensor]:
        found = found | {"boxes": clip_boxes_to_image(found["boxes"], shape)}
        if not self.preset.drop_empty:
            return found
        boxes = found["boxes"]
        full = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        return {name: value[full] for name, value in found.items()}
