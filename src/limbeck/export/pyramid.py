"""What is exported of detectors with one dense head: RetinaNet, GFL, FCOS and SSD."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from limbeck.export.graph import Decoded, DetectorGraph, type_of
from limbeck.exported.framing import Framing
from limbeck.exported.suppression import Suppression
from limbeck.models import FCOS, GFL, SSD, RetinaNet
from limbeck.models.precision import in_full_precision


class DenseGraph(DetectorGraph):
    """A detector whose head predicts classes and boxes for the anchors of all levels.

    Args:
        model: The detector.
        framing: How images come into the frame.

    Attributes:
        anchors: The anchors of the frame, (N, 4). Where its size is dynamic, they are made anew.
    """

    dynamic: ClassVar[tuple[str, ...]] = ("batch", "size")
    anchors: Tensor | None

    def __init__(self, model: RetinaNet | GFL | FCOS | SSD, framing: Framing) -> None:
        super().__init__()
        self.model: Any = model
        self.framing = framing
        self.register_buffer("anchors", None, persistent=False)
        counts: tuple[int, ...] = ()
        if framing.size is not None:
            image = torch.zeros(1, 3, *framing.size)
            with torch.no_grad():
                maps = self._maps(image)
                self.anchors = model.anchor_generator(ImageList(image, [framing.size]), maps)[0]
            counts = self._counts(maps)
        self.suppression = _suppression(model, counts)

    def decoded(self, images: Tensor) -> Decoded:
        """The boxes and scores of all anchors."""
        maps = self._maps(images)
        found = {n: in_full_precision(v) for n, v in self.model.head(maps).items()}
        anchors = self._anchors(images, maps) if self.anchors is None else self.anchors
        boxes, scores = self._boxes_and_scores(found, anchors.expand(images.shape[0], -1, -1))
        return Decoded(boxes, scores, () if isinstance(self.model, SSD) else self._counts(maps))

    def _boxes_and_scores(self, found: dict[str, Tensor], anchors: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = found["cls_logits"], found["bbox_regression"]
        if isinstance(self.model, FCOS):
            central = found["bbox_ctrness"].sigmoid()
            return self.model.box_coder.decode(deltas, anchors), (logits.sigmoid() * central).sqrt()
        boxes = self.model.box_coder.decode_single(deltas.flatten(0, 1), anchors.flatten(0, 1))
        scores = logits.softmax(-1)[..., 1:] if isinstance(self.model, SSD) else logits.sigmoid()
        return boxes.reshape_as(anchors), scores

    def halve(self) -> None:
        """Let the network compute in float16."""
        self.model.backbone.half()
        self.model.head.half()

    def _maps(self, images: Tensor) -> list[Tensor]:
        transform = self.model.transform
        normalised = (images - transform.mean) / transform.std
        return list(self.model.backbone(normalised.to(type_of(self.model.backbone))).values())

    def _counts(self, maps: list[Tensor]) -> tuple[int, ...]:
        per_cell = self.model.anchor_generator.num_anchors_per_location()
        return tuple(m.shape[-2] * m.shape[-1] * n for m, n in zip(maps, per_cell, strict=True))

    def _anchors(self, images: Tensor, maps: list[Tensor]) -> Tensor:
        """The anchors of frames of any size, without those that the generator has kept."""
        generator: AnchorGenerator = self.model.anchor_generator
        generator.set_cell_anchors(torch.float32, images.device)
        grids = [list(each.shape[-2:]) for each in maps]
        strides = [
            [side // cells for side, cells in zip(images.shape[-2:], g, strict=True)] for g in grids
        ]
        return torch.cat(generator.grid_anchors(grids, strides))


def _suppression(model: Any, counts: tuple[int, ...]) -> Suppression:
    """What the detector's own evaluation does behind its head."""
    shared = {
        "score_threshold": model.score_thresh,
        "nms_threshold": model.nms_thresh,
        "detections_per_image": model.detections_per_img,
        "topk": model.topk_candidates,
    }
    classes = range(1, model.num_classes + 1)
    if isinstance(model, SSD):
        return Suppression(tuple(classes), **shared, topk_of="class")
    preset = model.preset
    unused = isinstance(model, FCOS) or preset.unused_column
    return Suppression(
        (0, *classes) if unused else tuple(classes),
        **shared,
        topk_of="level",
        levels=counts,
        clip_first=isinstance(model, FCOS) or preset.clip_before_nms,
        smallest=None if isinstance(model, FCOS) or not preset.drop_empty else 0.0,
    )
