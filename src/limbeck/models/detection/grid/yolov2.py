"""YOLOv2 (Redmon and Farhadi, arXiv 1612.08242) of any width, with the loss of darknet's program.

Every anchor has a box whose centre stays in the anchor's cell, the probability of an object, which
learns the IoU of that box, and a distribution over the classes. From the predicted
(t_x, t_y, t_w, t_h) of the anchor of width a_w and height a_h in a cell (section 2 of the paper):

    x = (column + sigmoid(t_x)) * 32,    w = a_w * exp(t_w)
    y = (row + sigmoid(t_y)) * 32,       h = a_h * exp(t_h)
    score = sigmoid(t_o) * softmax(classes)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.frame import Extent
from limbeck.models import darknet19
from limbeck.models.darknet19 import STAGES, convolution, scaled
from limbeck.models.detection.grid.anchors import GridAnchors
from limbeck.models.detection.grid.detector import (
    Found,
    GridBackbone,
    GridDetector,
    Predictions,
    fixed_size_transform,
)
from limbeck.models.detection.grid.region import LEVEL, STRIDE, decoded, region_loss
from limbeck.models.detection.parts.transform import Targets
from limbeck.models.detection.settling import settle
from limbeck.models.norms import Norm, convert_norms

Passthrough = Literal["darknet", "space_to_depth"]

IMAGE_SIZE = (416, 416)  # (height, width), pixels
# (width, height), pixels, of yolov2-voc.cfg at 416 x 416, which states them in cells of 32 pixels.
VOC_ANCHORS = (
    (42.3072, 55.4064), (102.168, 128.30208), (161.78784, 259.16544), (303.07584, 154.89696),
    (359.5648, 320.2272),
)  # fmt: skip
_PASSED = 64  # channels that are passed on from stride 16, at width 1
_WARM_UP = 12_800  # images during which anchors without an object are pulled to their prior


class YOLOv2(GridDetector):
    """YOLOv2 of any width, as darknet trains it (Redmon and Farhadi, arXiv 1612.08242).

    It takes images and gives losses or detections as all of limbeck's detectors do, see
    :class:`limbeck.models.detection.detector.Detector`. In evaluation mode every image is resized
    to ``image_size``, whatever its aspect. Its losses are ``coordinates``, ``confidence``,
    ``classification`` and ``prior``, see :func:`limbeck.models.detection.grid.region.region_loss`.

    Args:
        width: The factor on the channels of every layer. Published are 1 and, for imitated
            students, 0.25 and 0.15.
        num_classes: The number of foreground classes. Their labels count from 1. There is no class
            for the background.
        weights: The weights to begin with, as :func:`limbeck.models.load_weights` takes them: a
            student's folder; the folder of a ``Classifier`` of ``limbeck:darknet19``, which fills
            the trunk; or one of darknet's files, of the whole network or of the trunk alone. These
            do not say their anchors: those of ``yolov2.weights`` (COCO) are the ones in its cfg,
            times 32. Default (None): the detector is initialised afresh.
        image_size: The (height, width) of the images in evaluation mode, in pixels. Default (None):
            as the weights say, otherwise 416 x 416.
        anchor_shapes: The (width, height) of each anchor of a cell, in pixels at that size. Default
            (None): as the weights say, otherwise those published for VOC.
        passthrough: How cells of stride 16 become channels of stride 32: ``space_to_depth``, which
            takes the four within a cell, as the paper has it; or ``darknet``, as published weights
            were trained, see :func:`limbeck.models.detection.grid.yolov2.darknet_reorganised`.
            Default (None): as the weights say, otherwise ``space_to_depth``.
        norm: What the batch normalisations of the backbone do, see
            :func:`limbeck.models.norms.convert_norms`.
        mean: The mean of each input channel, RGB in [0, 1]. Default (None): as the weights say,
            otherwise 0, since darknet does not normalise.
        std: The standard deviation of each input channel. Default (None): as the weights say,
            otherwise 1, since darknet does not normalise.
        score_threshold: The score that a class of an anchor has to exceed to be a detection.
        nms_threshold: The IoU above which the lower of two detections of a class is dropped.
        topk_candidates: The greatest number of detections of an image that enter NMS.
        detections_per_image: The greatest number of detections in an image.

    Attributes:
        numerics: The arguments without which the same weights give other outputs, see
            :class:`limbeck.models.build.LimbeckModel`.
        backbone: Darknet-19's trunk, and the layers that the detector adds.
        seen: The number of images that the detector was trained on, in all processes.

    Raises:
        ValueError: An argument, which is named, does not suit.

    Example:
        >>> import torch
        >>> from limbeck import models
        >>> detector = models.YOLOv2(0.15, num_classes=3, image_size=(64, 96))
        >>> images = [torch.rand(3, 64, 96)]
        >>> target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
        >>> list(detector(images, [target]))
        ['coordinates', 'confidence', 'classification', 'prior']
        >>> list(detector.eval()(images)[0])
        ['boxes', 'scores', 'labels']
    """

    numerics: ClassVar[Mapping[str, Any]] = {
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "image_size": IMAGE_SIZE,
        "anchor_shapes": VOC_ANCHORS,
        "passthrough": "space_to_depth",
    }
    backbone: "Backbone"
    seen: Tensor

    def __init__(
        self,
        width: float,
        num_classes: int,
        *,
        weights: str | Path | None = None,
        image_size: Extent | None = None,
        anchor_shapes: Sequence[Sequence[float]] | None = None,
        passthrough: Passthrough | None = None,
        norm: Norm = "trained",
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        score_threshold: float = 0.005,
        nms_threshold: float = 0.45,
        topk_candidates: int = 1000,
        detections_per_image: int = 300,
    ) -> None:
        opened, settled = settle(YOLOv2, locals())
        super().__init__()
        height, columns = settled["image_size"]
        self.image_size = (height, columns)
        self.transform = fixed_size_transform(
            self.image_size, STRIDE, settled["mean"], settled["std"]
        )
        self.anchor_generator = CellAnchors(settled["anchor_shapes"])
        self.backbone = Backbone(width, settled["passthrough"])
        darknet19.initialise(self.backbone)
        convert_norms(self.backbone, norm)
        per_cell = len(self.anchor_generator.shapes)
        self.head = nn.Conv2d(self.backbone.out_channels, per_cell * (5 + num_classes), 1)
        nn.init.normal_(self.head.weight, std=0.01)  # boxes begin as the anchors
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)
        # The number of images that it was trained on, in all processes.
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.topk_candidates = topk_candidates
        self.detections_per_image = detections_per_image
        self.complete(settled, (LEVEL,), opened)

    def split(self, predicted: Tensor) -> Predictions:
        """Split the head's channels: each anchor's x, y, w, h, its object, and its classes."""
        by_cell = predicted.permute(0, 2, 3, 1)  # (B, H, W, channels)
        by_anchor = by_cell.reshape(predicted.shape[0], -1, 5 + self.num_classes)  # (B, N, 5 + C)
        return Predictions(by_anchor[..., 5:], by_anchor[..., 4], by_anchor[..., :4])

    def decode(
        self, predictions: Predictions, anchors: Tensor, extent: Extent
    ) -> tuple[Tensor, Tensor]:
        """The boxes (B, N, 4), xyxy in the network's frame, and the scores (B, N, C)."""
        sure = predictions.confidence.sigmoid()
        scores = predictions.logits.softmax(-1) * sure[..., None]
        return decoded(predictions.deltas, anchors), scores

    def compute_loss(
        self, targets: Targets, predictions: Predictions, anchors: Tensor, extent: Extent
    ) -> dict[str, Tensor]:
        """The :func:`.region.region_loss`, with its warm-up during the first 12,800 images."""
        warm_up = self.seen < _WARM_UP
        processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        self.seen += len(targets) * processes
        sides = self.anchor_generator.sides
        return region_loss(predictions, anchors, sides, targets, extent, warm_up)

    def candidates(self, boxes: Tensor, scores: Tensor) -> Found:
        """The best of all classes of all anchors that score above the threshold."""
        best, order = scores.flatten().topk(min(self.topk_candidates, scores.numel()))
        kept = best > self.score_threshold
        best, order = best[kept], order[kept]
        anchor, column = order // self.num_classes, order % self.num_classes
        return {"boxes": boxes[anchor], "scores": best, "labels": column + 1}

    def suppress(self, found: Found, content: Sequence[int]) -> Found:
        """Non-maximum suppression, and a bound of the number of detections in the image."""
        kept = super().suppress(found, content)
        return {name: value[: self.detections_per_image] for name, value in kept.items()}

    def without_limbeck(self) -> None:
        """None: no other library has this network."""


class Backbone(GridBackbone):
    """Darknet-19's trunk, and what the detector adds to it. Its last map is the one to imitate.

    The layers are in the order of darknet's files.

    Args:
        width: The factor on the channels of every layer.
        passthrough: How cells of stride 16 become channels of stride 32, see :class:`YOLOv2`.

    Raises:
        ValueError: The width leaves a layer without channels, or darknet's way does not suit it.
    """

    def __init__(self, width: float, passthrough: Passthrough) -> None:
        super().__init__()
        if passthrough not in get_args(Passthrough):
            raise ValueError(
                f"passthrough={passthrough!r}: expected one of {', '.join(get_args(Passthrough))}."
            )
        fine, coarse, passed = (scaled(n, width) for n in (STAGES[4][-1], STAGES[5][-1], _PASSED))
        if passthrough == "darknet" and passed % 4:
            raise ValueError(
                f"passthrough='darknet' at width={width}: {passed} channels are passed on; "
                "expected a multiple of 4. Take passthrough='space_to_depth', or another width."
            )
        self.features = darknet19.trunk(width)
        self.added = nn.Sequential(convolution(coarse, coarse, 3), convolution(coarse, coarse, 3))
        self.passed = convolution(fine, passed, 1)
        self.fused = convolution(4 * passed + coarse, coarse, 3)
        self.passthrough = passthrough
        self.out_channels = coarse

    @property
    def trunk(self) -> nn.Module:
        """The part that the ImageNet classifier has, too."""
        return self.features

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), normalised, sides that 32 divides -> (B, out_channels, H / 32, W / 32)."""
        *first, last = self.features
        fine = images
        for stage in first:
            fine = stage(fine)
        coarse = self.added(last(fine))
        passed = self.passed(fine)
        if self.passthrough == "darknet":
            passed = darknet_reorganised(passed)
        else:
            passed = F.pixel_unshuffle(passed, 2)
        feature: Tensor = self.fused(torch.cat([passed, coarse], dim=1))
        return feature


def darknet_reorganised(feature: Tensor) -> Tensor:
    """Darknet's layer ``reorg``: (B, C, H, W) -> (B, 4 * C, H / 2, W / 2).

    It takes the memory of (C, H, W) for that of (C / 4, 2 * H, 2 * W), collects the four neighbours
    there, and so mixes places of the map. Its authors did not mean that, but published weights were
    trained with it.
    """
    count, channels, height, width = feature.shape
    as_read = feature.reshape(count, channels * height // 4, 2, width, 2)
    neighbours = as_read.permute(0, 2, 4, 1, 3)
    return neighbours.reshape(count, 4 * channels, height // 2, width // 2)


class CellAnchors(GridAnchors):
    """Anchors in the middle of their cells."""

    def centres(self, cells: int, side: int) -> Tensor:
        """The centres of the cells along one side, ``(i + 0.5) * side / cells``, in pixels."""
        return (torch.arange(cells, dtype=torch.float64) + 0.5) * side / cells
