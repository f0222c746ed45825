"""What is exported of detectors with two stages: Faster R-CNN, on a pyramid and on one map."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers

from limbeck.export.graph import Decoded, DetectorGraph, extent_of, type_of
from limbeck.exported.framing import Framing
from limbeck.exported.suppression import Candidates, Kept, Suppression, kept_of_images
from limbeck.models import FasterRCNN, FasterRCNNC4
from limbeck.models.detection.c4.original import FGFIRoIHeads

_SMALLEST = 1e-2  # pixels: the side that torchvision's box head asks of a box


class RegionGraph(DetectorGraph):
    """A detector that proposes regions, and looks at each of them again.

    There are as many regions whatever an image shows: where suppression leaves fewer, the scores of
    the others are 0.

    Args:
        model: The detector.
        framing: How images come into the frame.

    Attributes:
        anchors: The anchors of the frame, (N, 4).
        kept: What says which proposals suppression keeps.
    """

    dynamic: ClassVar[tuple[str, ...]] = ()  # regions are pooled image by image
    anchors: Tensor

    def __init__(self, model: FasterRCNN | FasterRCNNC4, framing: Framing) -> None:
        super().__init__()
        self.model: Any = model
        self.framing = framing
        self.kept: Kept = kept_of_images
        assert framing.size is not None, "its frame is fixed"
        image = torch.zeros(1, 3, *framing.size)
        with torch.no_grad():
            levels = list(self._maps(image).values())
            anchors = model.rpn.anchor_generator(ImageList(image, [framing.size]), levels)[0]
        self.register_buffer("anchors", anchors, persistent=False)
        is_original = isinstance(model.roi_heads, FGFIRoIHeads)
        rpn, heads = model.rpn, model.roi_heads
        self.proposing = Suppression(
            (1,),
            -0.5,  # whatever the score
            rpn.nms_thresh,
            rpn.post_nms_top_n(),
            topk=rpn.pre_nms_top_n(),
            topk_of="level",
            smallest=rpn.min_size,
            least=int(is_original),
        )
        self.suppression = Suppression(
            tuple(range(1, model.num_classes + 1)),
            heads.score_thresh,
            heads.nms_thresh,
            heads.detections_per_img,
            smallest=None if is_original else _SMALLEST,
            least=int(is_original),
        )

    def decoded(self, images: Tensor) -> Decoded:
        """The boxes (B, R, C, 4) and the scores (B, R, C) of all regions."""
        maps = self._maps(images)
        regions, real = self._regions(images, maps)
        count, each = regions.shape[:2]
        heads = self.model.roi_heads
        pooled = heads.box_roi_pool(maps, list(regions.unbind(0)), [])
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        boxes = heads.box_coder.decode_single(deltas, regions.flatten(0, 1))
        boxes = boxes.reshape(count, each, -1, 4)[:, :, 1:]
        scores = logits.softmax(-1).reshape(count, each, -1)[:, :, 1:]
        return Decoded(boxes, torch.where(real[..., None], scores, 0.0))

    def halve(self) -> None:
        """Let the networks compute in float16."""
        self.model.backbone.half()
        self.model.rpn.head.half()
        self.model.roi_heads.box_head.half()
        self.model.roi_heads.box_predictor.half()

    def _maps(self, images: Tensor) -> dict[str, Tensor]:
        transform = self.model.transform
        normalised = (images - transform.mean) / transform.std
        maps = self.model.backbone(normalised.to(type_of(self.model.backbone)))
        return {"0": maps} if isinstance(maps, Tensor) else dict(maps)

    def _regions(self, images: Tensor, maps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The proposals (B, R, 4), and which of them there are, (B, R)."""
        rpn, count = self.model.rpn, images.shape[0]
        objectness, deltas = rpn.head(list(maps.values()))
        levels = [o.shape[1] * o.shape[2] * o.shape[3] for o in objectness]
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        boxes = rpn.box_coder.decode_single(deltas, self.anchors.repeat(count, 1))
        scores = objectness.sigmoid().reshape(count, -1, 1)
        found = self.proposing.candidates(boxes.reshape(count, -1, 4), scores, levels)
        # Suppression is within each level, as it is within each class elsewhere.
        most = self.proposing.topk or 0
        numbers = [torch.full((min(most, n),), k + 1) for k, n in enumerate(levels)]
        labels = torch.cat(numbers).expand_as(found.labels)
        found = Candidates(found.boxes, found.scores, labels)
        regions, _, labels = self.proposing.chosen(found, extent_of(images), self.kept)
        return regions, labels > 0
