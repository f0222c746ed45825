"""ShuffleDet of Fine-grained Feature Imitation (Wang et al., CVPR 2019) for KITTI.

It is a ShuffleNet with SqueezeDet's head and loss (Wu et al., arXiv 1612.01051): every anchor has a
class distribution of its own, a confidence, which learns the IoU of its box, and a box.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.frame import Extent
from limbeck.models import shufflenet_v1
from limbeck.models.detection.grid.anchors import GridAnchors
from limbeck.models.detection.grid.detector import (
    Found,
    GridBackbone,
    GridDetector,
    Predictions,
    fixed_size_transform,
)
from limbeck.models.detection.grid.squeezedet import (
    MatchedObjects,
    boxes_in_frame,
    squeezedet_loss,
)
from limbeck.models.detection.parts.transform import Targets
from limbeck.models.detection.settling import settle
from limbeck.models.norms import Norm, convert_norms
from limbeck.models.shufflenet_v1 import Unit

IMAGE_SIZE = (384, 1248)  # (height, width), pixels
# (width, height), pixels, for images of that size.
KITTI_ANCHORS = (
    (36.0, 37.0), (366.0, 174.0), (115.0, 59.0), (162.0, 87.0), (38.0, 90.0), (258.0, 173.0),
    (224.0, 108.0), (78.0, 170.0), (72.0, 43.0),
)  # fmt: skip
MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
STD = (1 / 255, 1 / 255, 1 / 255)
LEVEL = 4  # the map's stride is 2**4 pixels
_ADDED = 768  # channels of the last unit at width 1


class ShuffleDet(GridDetector):
    """ShuffleDet of Fine-grained Feature Imitation (Wang et al., CVPR 2019), of any width.

    It takes images and gives losses or detections as all of limbeck's detectors do, see
    :class:`limbeck.models.detection.detector.Detector`. In evaluation mode every image is resized
    to ``image_size``, whatever its aspect. Its losses are ``classification``, ``confidence`` and
    ``bbox_regression``, see
    :func:`limbeck.models.detection.grid.squeezedet.squeezedet_loss`.

    Args:
        width: The factor on the channels. Published are 1 (the teacher), 0.5 and 0.25.
        num_classes: The number of foreground classes. Their labels count from 1. There is no class
            for the background.
        weights: The weights to begin with, as :func:`limbeck.models.load_weights` takes them: a
            student's folder; or the folder or file of a ``limbeck:shufflenet_v1`` ``Classifier``,
            which fills the stem and the groups. Default (None): the detector is initialised afresh.
        image_size: The (height, width) of the images in evaluation mode, in pixels. Default (None):
            as the weights say, otherwise 384 x 1248.
        anchor_shapes: The (width, height) of each anchor of a cell, in pixels at that size. Default
            (None): as the weights say, otherwise those published for KITTI.
        stem_channels: The number of channels of the stem. Default (None): as published, 16 at a
            width of 1 and 24 otherwise.
        norm: What the batch normalisations of the backbone do, see
            :func:`limbeck.models.norms.convert_norms`.
        dropout: The probability with which a value of the map is dropped before the head.
        mean: The mean of each input channel, RGB in [0, 1]. Default (None): as the weights say,
            otherwise as published, which is ImageNet's in Caffe.
        std: The standard deviation of each input channel. Default (None): as the weights say,
            otherwise 1/255, as published.
        nms_threshold: The IoU above which the lower of two detections of a class is dropped.
        topk_candidates: The number of anchors of an image that enter NMS, each with its best class.
        detections_per_class: The greatest number of detections of each class in an image.

    Attributes:
        numerics: The arguments without which the same weights give other outputs, see
            :class:`limbeck.models.build.LimbeckModel`.
        backbone: The stem, the groups, and the units that the detector adds.

    Raises:
        ValueError: An argument, which is named, does not suit.

    Example:
        >>> import torch
        >>> from limbeck import models
        >>> detector = models.ShuffleDet(0.25, num_classes=3, image_size=(64, 96))
        >>> images = [torch.rand(3, 64, 96)]
        >>> target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
        >>> list(detector(images, [target]))
        ['classification', 'confidence', 'bbox_regression']
        >>> list(detector.eval()(images)[0])
        ['boxes', 'scores', 'labels']
    """

    numerics: ClassVar[Mapping[str, Any]] = {
        "mean": MEAN,
        "std": STD,
        "image_size": IMAGE_SIZE,
        "anchor_shapes": KITTI_ANCHORS,
    }
    backbone: "Backbone"

    def __init__(
        self,
        width: float,
        num_classes: int,
        *,
        weights: str | Path | None = None,
        image_size: Extent | None = None,
        anchor_shapes: Sequence[Sequence[float]] | None = None,
        stem_channels: int | None = None,
        norm: Norm = "trained",
        dropout: float = 0.5,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        nms_threshold: float = 0.4,
        topk_candidates: int = 64,
        detections_per_class: int = 50,
    ) -> None:
        opened, settled = settle(ShuffleDet, locals())
        super().__init__()
        height, columns = settled["image_size"]
        self.image_size = (height, columns)
        self.transform = fixed_size_transform(
            self.image_size, 2**LEVEL, settled["mean"], settled["std"]
        )
        self.anchor_generator = SpreadAnchors(settled["anchor_shapes"])
        self.backbone = Backbone(width, stem_channels)
        shufflenet_v1.initialise(self.backbone)
        convert_norms(self.backbone, norm)
        per_cell = len(self.anchor_generator.shapes)
        head = nn.Conv2d(self.backbone.out_channels, per_cell * (num_classes + 5), 3, padding=1)
        nn.init.trunc_normal_(head.weight, std=1e-4, a=-2e-4, b=2e-4)
        assert head.bias is not None
        nn.init.zeros_(head.bias)
        self.head = nn.Sequential(nn.Dropout(dropout), head)
        self.nms_threshold = nms_threshold
        self.topk_candidates = topk_candidates
        self.detections_per_class = detections_per_class
        self.complete(settled, (LEVEL,), opened)

    def split(self, predicted: Tensor) -> Predictions:
        """Split the head's channels: all anchors' classes, then the confidences, then the boxes."""
        count, per_cell = predicted.shape[0], len(self.anchor_generator.shapes)
        by_cell = predicted.permute(0, 2, 3, 1)  # (B, H, W, channels)
        sizes = [per_cell * self.num_classes, per_cell, per_cell * 4]
        logits, confidence, deltas = torch.split(by_cell, sizes, dim=-1)
        return Predictions(
            logits.reshape(count, -1, self.num_classes),
            confidence.reshape(count, -1),
            deltas.reshape(count, -1, 4),
        )

    def decode(
        self, predictions: Predictions, anchors: Tensor, extent: Extent
    ) -> tuple[Tensor, Tensor]:
        """The boxes (B, N, 4), xyxy, clipped to the network's frame, and the scores (B, N, C)."""
        boxes = boxes_in_frame(predictions.deltas, anchors, extent)
        sure = predictions.confidence.sigmoid()
        return boxes, predictions.logits.softmax(-1) * sure[..., None]

    def compute_loss(
        self, targets: Targets, predictions: Predictions, anchors: Tensor, extent: Extent
    ) -> dict[str, Tensor]:
        """The :func:`.squeezedet.squeezedet_loss`, after objects were matched to anchors."""
        matched = MatchedObjects.of(targets, anchors)
        return squeezedet_loss(matched, predictions, anchors, extent)

    def candidates(self, boxes: Tensor, scores: Tensor) -> Found:
        """The anchors whose best class scores highest, whatever the score."""
        best, column = scores.max(dim=1)
        best, order = best.topk(min(self.topk_candidates, len(best)))
        return {"boxes": boxes[order], "scores": best, "labels": column[order] + 1}

    def suppress(self, found: Found, content: Sequence[int]) -> Found:
        """Non-maximum suppression, and a bound of the number of detections of each class."""
        found = super().suppress(found, content)
        of_class = F.one_hot(found["labels"], self.num_classes + 1)
        rank = (of_class.cumsum(dim=0) * of_class).sum(dim=1)  # from 1, best first
        return {n: value[rank <= self.detections_per_class] for n, value in found.items()}

    def without_limbeck(self) -> None:
        """None: no other library has this network."""


class Backbone(GridBackbone):
    """The stem, three groups, and ``added3``: a unit of the same width, and one without a shortcut.

    Args:
        width: The factor on the channels.
        stem_channels: The number of channels of the stem. None: as published.
    """

    def __init__(self, width: float, stem_channels: int | None) -> None:
        super().__init__()
        layers = OrderedDict(shufflenet_v1.trunk(width, stem_channels).named_children())
        inputs = round(shufflenet_v1.WIDTHS[-1] * width)
        quantum = 4 * shufflenet_v1.GROUPS  # its branch has a quarter, in groups
        self.out_channels = round(_ADDED * width / quantum) * quantum
        added = Unit(inputs, self.out_channels, shortcut=False)
        layers["added3"] = nn.Sequential(Unit(inputs, inputs), added)
        self.features = nn.Sequential(layers)

    @property
    def trunk(self) -> nn.Module:
        """The stem and the groups, which the ImageNet classifier has, too."""
        names = [name for name, _ in self.features.named_children() if name != "added3"]
        return nn.Sequential(OrderedDict((n, self.features.get_submodule(n)) for n in names))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the map: (B, 3, H, W), normalised -> (B, out_channels, H / 16, W / 16)."""
        feature: Tensor = self.features(images)
        return feature


class SpreadAnchors(GridAnchors):
    """Anchors whose centres divide the image's side into one part more than there are cells."""

    def centres(self, cells: int, side: int) -> Tensor:
        """The centres of the cells along one side, ``(i + 1) * side / (cells + 1)``, in pixels."""
        return torch.arange(1, cells + 1, dtype=torch.float64) * side / (cells + 1)
