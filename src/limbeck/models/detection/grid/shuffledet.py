"""ShuffleDet of Fine-grained Feature Imitation (Wang et al., CVPR 2019) for KITTI.

It is a ShuffleNet with SqueezeDet's head and loss (Wu et al., arXiv 1612.01051): every anchor has a
class distribution of its own, a confidence, which learns the IoU of its box, and a box.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_iou

from limbeck.frame import Extent
from limbeck.models import shufflenet_v1
from limbeck.models.detection.grid.anchors import GridAnchors
from limbeck.models.detection.grid.detector import (
    Found,
    GridBackbone,
    GridDetector,
    Predictions,
    Targets,
    fixed_size_transform,
    iou,
)
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
_CONFIDENCE, _NO_OBJECT, _BOX = 75.0, 100.0, 5.0  # weights of the loss
_BLOCK = 64  # objects of an image that are compared with all anchors at a time
_NEVER = -1e30  # a logit that takes no part


class ShuffleDet(GridDetector):
    """ShuffleDet of Fine-grained Feature Imitation (Wang et al., CVPR 2019), of any width.

    It takes images and gives losses or detections as all of limbeck's detectors do, see
    :class:`limbeck.models.detection.detector.Detector`. In evaluation mode every image is resized
    to ``image_size``, whatever its aspect. Its losses are ``classification``, ``confidence`` and
    ``bbox_regression``, see :meth:`compute_loss`.

    Args:
        width: The factor on the channels. Published are 1 (the teacher), 0.5 and 0.25.
        num_classes: The number of foreground classes. Their labels count from 1. There is no class
            for the background.
        weights: The weights to begin with, as :func:`limbeck.models.load_weights` takes them: a
            student's folder, or the folder of a ``Classifier`` of ``limbeck:shufflenet_v1``, which
            fills the stem and the groups. Default (None): the detector is initialised afresh.
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
        """Split the head's channels: all anchors' classes, then their confidences, then their boxes."""
        count, per_cell = len(predicted), len(self.anchor_generator.shapes)
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
        """The boxes (B, N, 4), clipped to the frame, and the scores (B, N, C) of anchors.

        Args:
            predictions: What is predicted for N anchors.
            anchors: The anchors (N, 4), xyxy.
            extent: The (height, width) of the network's frame, in pixels.

        Returns:
            The boxes, xyxy in the network's frame, and the scores.
        """
        boxes = decoded(predictions.deltas, anchors)
        edge = boxes.new_tensor([extent[1] - 1, extent[0] - 1]).repeat(2)
        sure = predictions.confidence.sigmoid()
        return boxes.clamp(min=0).minimum(edge), predictions.logits.softmax(-1) * sure[..., None]

    def compute_loss(
        self, targets: Targets, predictions: Predictions, anchors: Tensor, extent: Extent
    ) -> dict[str, Tensor]:
        """SqueezeDet's three losses (section 3.3 of its paper), with the published weights.

        There are B images of N anchors, and n anchors in all that have an object. The losses are

        * ``classification``: the binary cross-entropy of each class's probability, summed over the
          n anchors and divided by n;
        * ``confidence``: the squared error of the confidence, whose target is the IoU of the
          decoded box, or 0 without an object; it is weighted by 75 / n with an object and by 100 /
          (N - n) without, summed and divided by B;
        * ``bbox_regression``: 5 / n times the squared error of the deltas of the n anchors.

        In a batch without objects the second one alone is not 0.

        Args:
            targets: The ``boxes`` (M, 4) and ``labels`` (M,) of each image, in the network's frame.
            predictions: What is predicted for the N anchors of each image.
            anchors: The anchors (N, 4), xyxy.
            extent: The (height, width) of the network's frame, in pixels.

        Returns:
            The three losses by their names.
        """
        return self.losses(MatchedObjects.of(targets, anchors), predictions, anchors, extent)

    def losses(
        self, matched: "MatchedObjects", predictions: Predictions, anchors: Tensor, extent: Extent
    ) -> dict[str, Tensor]:
        """The losses of :meth:`compute_loss`, for objects that have their anchors already.

        Args:
            matched: The objects of the batch and their anchors.
            predictions: What is predicted for the N anchors of each image.
            anchors: The anchors (N, 4), xyxy.
            extent: The (height, width) of the network's frame, in pixels.

        Returns:
            The three losses by their names.
        """
        images, (image, anchor, boxes, labels) = len(predictions.logits), matched
        count, others = max(1, len(anchor)), max(1, len(anchors) - len(anchor))
        chosen = Predictions(*(each[image, anchor] for each in predictions))
        errors = chosen.deltas - encoded(boxes, anchors[anchor])
        found, _ = self.decode(chosen, anchors[anchor], extent)
        # The original's decoded boxes have a pixel more on the right and below.
        found = found.detach() + found.new_tensor([0.0, 0.0, 1.0, 1.0])

        sure = predictions.confidence.sigmoid()  # (B, N)
        sure_of_objects = sure[image, anchor]
        right = (iou(found, boxes) - sure_of_objects).square().sum()
        wrong = sure.square().sum() - sure_of_objects.square().sum()
        return {
            "classification": _class_loss(chosen.logits, labels).sum() / count,
            "confidence": (_CONFIDENCE / count * right + _NO_OBJECT / others * wrong) / images,
            "bbox_regression": _BOX / count * errors.square().sum(),
        }

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


class MatchedObjects(NamedTuple):
    """The M objects of a batch, each with an anchor of its own.

    Attributes:
        image: The index of each object's image in the batch, (M,).
        anchor: The index of each object's anchor in that image, (M,).
        boxes: The box of each object, xyxy in the network's frame, (M, 4).
        labels: The label of each object, counting from 0, (M,).
    """

    image: Tensor
    anchor: Tensor
    boxes: Tensor
    labels: Tensor

    @classmethod
    def of(cls, targets: Targets, anchors: Tensor) -> "MatchedObjects":
        """Match the objects of all images, one image after the other.

        Args:
            targets: The ``boxes`` (M, 4) and ``labels`` (M,), which count from 1, of each image.
            anchors: The anchors (N, 4), the same for all images.

        Returns:
            The objects and their anchors.
        """
        chosen = anchors_of_objects([target["boxes"] for target in targets], anchors)
        return cls(
            torch.cat([torch.full_like(each, number) for number, each in enumerate(chosen)]),
            torch.cat(chosen),
            torch.cat([target["boxes"] for target in targets]),
            torch.cat([target["labels"] for target in targets]) - 1,
        )


class SpreadAnchors(GridAnchors):
    """Anchors whose centres divide the image's side into one part more than there are cells."""

    def centres(self, cells: int, side: int) -> Tensor:
        """The centres of the cells along one side, ``(i + 1) * side / (cells + 1)``, in pixels."""
        return torch.arange(1, cells + 1, dtype=torch.float64) * side / (cells + 1)


def safe_exp(x: Tensor) -> Tensor:
    """``exp(x)`` for x up to 1, and its tangent at 1 beyond, elementwise."""
    return torch.where(x > 1, torch.e * x, x.clamp(max=1).exp())


def encoded(boxes: Tensor, anchors: Tensor) -> Tensor:
    """The deltas (M, 4) from anchors (M, 4) to boxes (M, 4), both xyxy."""
    centres, sides = _centre_form(boxes)
    anchor_centres, anchor_sides = _centre_form(anchors)
    shifts = (centres - anchor_centres) / anchor_sides
    return torch.cat([shifts, (sides / anchor_sides).log()], dim=-1)


def decoded(deltas: Tensor, anchors: Tensor) -> Tensor:
    """The boxes (..., N, 4), xyxy, from deltas (..., N, 4) and anchors (N, 4)."""
    anchor_centres, anchor_sides = _centre_form(anchors)
    centres = anchor_centres + deltas[..., :2] * anchor_sides
    half = safe_exp(deltas[..., 2:]) * anchor_sides / 2
    return torch.cat([centres - half, centres + half], dim=-1)


def anchors_of_objects(boxes: Sequence[Tensor], anchors: Tensor) -> list[Tensor]:
    """Find an anchor of its own for each object, in the order of the objects.

    It is the one of the greatest IoU of those that are left; where none of them overlaps the
    object, it is the nearest one by the distance of centres and sides.

    Args:
        boxes: The boxes of the objects of each image, (M, 4), xyxy.
        anchors: The anchors (N, 4), the same for all images.

    Returns:
        For each image the indices of the objects' anchors, (M,).
    """
    padded = nn.utils.rnn.pad_sequence(list(boxes), batch_first=True)  # (B, G, 4), 0 at the end
    chosen = torch.zeros_like(padded[..., 0], dtype=torch.long)
    taken = anchors.new_zeros(len(padded), len(anchors), dtype=torch.bool)
    for start in range(0, padded.shape[1], _BLOCK):
        overlaps, distances = _compared(padded[:, start : start + _BLOCK], anchors)
        for turn in range(overlaps.shape[1]):
            overlap = overlaps[:, turn].masked_fill(taken, 0)
            nearness = -distances[:, turn].masked_fill(taken, torch.inf)
            rank = torch.where((overlap > 0).any(dim=1, keepdim=True), overlap, nearness)
            best = rank.argmax(dim=1, keepdim=True)
            taken.scatter_(1, best, True)
            chosen[:, start + turn] = best[:, 0]
    return [of_image[: len(own)] for of_image, own in zip(chosen, boxes, strict=True)]


def _compared(boxes: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and distance of centre and sides, (B, G, N) each, of boxes (B, G, 4) and anchors (N, 4)."""
    flat = boxes.flatten(0, 1)
    overlaps = box_iou(flat, anchors).view(*boxes.shape[:2], len(anchors))
    distances = torch.cdist(
        torch.cat(_centre_form(flat), dim=1),
        torch.cat(_centre_form(anchors), dim=1),
        compute_mode="donot_use_mm_for_euclid_dist",
    )
    return overlaps, distances.view_as(overlaps)


def _centre_form(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The centres and the sides of boxes, each (..., 2)."""
    first, last = boxes[..., :2], boxes[..., 2:]
    return (first + last) / 2, last - first


def _class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of each of the softmax's probabilities: (n, C), (n,) -> (n, C)."""
    total = logits.logsumexp(dim=1, keepdim=True)
    alone = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    rest = logits[:, None].masked_fill(alone, _NEVER).logsumexp(dim=2)  # all classes but one
    return -torch.where(alone[labels], logits - total, rest - total)
