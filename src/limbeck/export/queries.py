"""What is exported of the transformer detectors of Hugging Face's library."""

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_convert

from limbeck.export.graph import Decoded, DetectorGraph, extent_of, type_of
from limbeck.exported.framing import Framing
from limbeck.exported.suppression import Suppression
from limbeck.models import HuggingFaceDetector
from limbeck.models.precision import in_full_precision


class QueryGraph(DetectorGraph):
    """A detector of queries, of which nothing is suppressed.

    Args:
        model: The detector.
        framing: How images come into the frame.
    """

    def __init__(self, model: HuggingFaceDetector, framing: Framing) -> None:
        super().__init__()
        self.model = model
        self.framing = framing
        self.suppression = Suppression(
            tuple(range(1, model.num_classes + 1)),
            model.score_threshold,
            None,
            model.detections_per_image,
            topk=model.detections_per_image,
        )

    def decoded(self, images: Tensor) -> Decoded:
        """The boxes and scores of all queries."""
        model, network = self.model, self.model.network
        normalised = (images - model.transform.mean) / model.transform.std
        inputs: dict[str, Any] = {"pixel_values": normalised.to(type_of(network))}
        if model.family.masked:  # images fill their frames
            inputs["pixel_mask"] = torch.ones_like(images[:, 0], dtype=torch.int64)
        output = network(**inputs)
        logits, boxes = map(in_full_precision, (output.logits, output.pred_boxes))
        scores = logits.softmax(-1)[..., :-1] if model.family.background else logits.sigmoid()
        return Decoded(box_convert(boxes, "cxcywh", "xyxy") * extent_of(images), scores)

    def halve(self) -> None:
        """Let the network compute in float16."""
        self.model.network.half()
