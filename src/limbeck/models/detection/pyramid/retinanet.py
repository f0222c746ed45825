"""RetinaNet (Lin et al., arXiv 1708.02002): torchvision's, with its parts as arguments."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torchvision.models import detection
from torchvision.ops import batched_nms, clip_boxes_to_image

from limbeck.models.detection.detector import Detector, pyramid
from limbeck.models.detection.parts.anchors import anchor_generator
from limbeck.models.detection.parts.box_coder import box_coder
from limbeck.models.detection.parts.dense_losses import summed_losses
from limbeck.models.detection.parts.heads import RetinaNetHead
from limbeck.models.detection.parts.matcher import assign, matcher
from limbeck.models.detection.parts.transform import ReferenceTransform
from limbeck.models.detection.parts.trunks import P6P7, Activation, Backbone, layout_of
from limbeck.models.detection.pyramid.plain import retinanet_code
from limbeck.models.detection.settling import settle
from limbeck.models.norms import LastNorm, Norm
from limbeck.models.resnet import BasicBlocks
from limbeck.presets import PRESETS, PresetName, retinanet_sizes
from limbeck.trunks import Layout

_EXTRA = "a RetinaNet's extra levels come as a pair (torchvision's LastLevelP6P7)"
_MOMENTUM = 0.9  # of detectron2's running mean of positives, and what it begins with
_FIRST_MEAN = 100.0

P6From = Literal["P5", "C5"]


class RetinaNet(Detector, detection.RetinaNet):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ``RetinaNet`` over a light or heavy backbone; state dicts are interchangeable.

    (With the preset ``detectron2`` one buffer is added, the running mean that its losses are
    divided by; weights without it load all the same. Under DDP all processes divide by the first
    one's, so that checkpoints are exact; in detectron2 each has its own.)

    In training mode it takes images as they come (geometry belongs to the data pipeline) and gives
    a dict of losses; in evaluation mode it resizes, and gives a dict of ``boxes`` (xyxy, pixels),
    ``scores`` and ``labels`` for each image. Images are a list of RGB floats in [0, 1], (3, H, W).

    Args:
        backbone: ``resnet18``, ``resnet34``, ``resnet50``, ``resnet101``, ``mobilenet_v2``, or the
            shape of a network of basic blocks.
        num_classes: foreground classes; labels count from 1. As in stock torchvision the head has
            one column more, and column 0 is never used; with the other presets label k is column
            k - 1.
        preset: the library whose outputs and losses this network gives with its weights, see
            :mod:`limbeck.presets`; none: that of the weights, otherwise
            torchvision.
        weights: what :func:`limbeck.models.load_weights` takes; none: initialised afresh.
        levels: first and last level of the pyramid; level k has a stride of 2**k pixels. It ends
            at the trunk's last level or below, or two above (P6 and P7).
        fpn_channels: of the pyramid and the head.
        head_depth: convolutions in each of the two towers.
        anchor_sizes: of each level, pixels; none: three an octave, from 4 times the stride.
        aspect_ratios: height / width of the anchors.
        frozen_stages: stages of the trunk that are not trained: 1 is the stem, 2 the stem and C2.
        norm: of the trunk's batch normalisations, see :func:`limbeck.models.norms.convert_norms`.
            A trunk that is trained from scratch needs ``trained``.
        last_norm: what the normalisations of each trained stage's last block become, ``group`` or
            ``synchronised``; a student of MGD learns the teacher's features with them.
        stride_in_1x1: bottlenecks as in detectron2's weights of MSRA, see :class:`Backbone`; none:
            as the weights say, otherwise not.
        p6_from: what P6 is computed from; none: as the weights say, otherwise the preset's.
        relu_before_p7: between P6 and P7; none: likewise.
        activation: of MobileNetV2, ``leaky_relu`` as in HEAD; none: as the weights say, otherwise
            its own ReLU6.
        min_size: shorter side of images in evaluation mode, pixels.
        max_size: bound of the longer side in evaluation mode, pixels.
        mean: of the input channels, RGB in [0, 1]; none: as the weights say, otherwise ImageNet's.
        std: likewise.
        score_threshold: detections below it are dropped.
        nms_threshold: IoU above which the lower of two detections of a class is dropped.
        detections_per_image: at most; none: 300 as in torchvision, 100 with the other presets.
        topk_candidates: detections of each level that enter NMS, at most.

    Raises:
        ValueError: An argument does not suit the backbone or the weights; it is named.
    """

    numerics: ClassVar[Mapping[str, Any]] = {
        "preset": "torchvision",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "stride_in_1x1": False,
        "activation": None,
        "anchor_sizes": None,
        "aspect_ratios": (0.5, 1.0, 2.0),
        "p6_from": None,
        "relu_before_p7": None,
    }
    backbone: Backbone
    loss_normaliser: Tensor  # with detectron2's preset alone
    score_thresh: float
    topk_candidates: int

    def __init__(
        self,
        backbone: str | BasicBlocks,
        num_classes: int,
        *,
        preset: PresetName | None = None,
        weights: str | Path | None = None,
        levels: tuple[int, int] = (3, 7),
        fpn_channels: int = 256,
        head_depth: int = 4,
        anchor_sizes: Sequence[Sequence[float]] | None = None,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        frozen_stages: int = 0,
        norm: Norm = "frozen",
        last_norm: LastNorm | None = None,
        stride_in_1x1: bool | None = None,
        p6_from: P6From | None = None,
        relu_before_p7: bool | None = None,
        activation: Activation | None = None,
        min_size: int = 800,
        max_size: int = 1333,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        detections_per_image: int | None = None,
        topk_candidates: int = 1000,
    ) -> None:
        opened, settled = settle(RetinaNet, locals(), presets=PRESETS)
        numerics = PRESETS[settled["preset"]]
        layout = layout_of(backbone)
        pyramid_levels = pyramid(layout, levels, 2, _EXTRA)
        extra = _extra_levels(settled, layout) if levels[1] > layout.top else None
        rounded = numerics.rounded_anchors
        sizes = settled["anchor_sizes"] or retinanet_sizes(pyramid_levels, rounded=rounded)
        anchors = anchor_generator(pyramid_levels, sizes, aspect_ratios, rounded=rounded)
        columns = num_classes + 1 if numerics.unused_column else num_classes
        fpn = Backbone(
            backbone,
            levels,
            fpn_channels,
            extra,
            norm=norm,
            frozen_stages=frozen_stages,
            last_norm=last_norm,
            stride_in_1x1=settled["stride_in_1x1"],
            activation=settled["activation"],
        )
        per_cell = anchors.num_anchors_per_location()[0]
        colours = list(settled["mean"]), list(settled["std"])
        detections = numerics.detections_per_image
        super().__init__(
            fpn,
            columns,
            min_size=min_size,
            max_size=max_size,
            image_mean=colours[0],
            image_std=colours[1],
            anchor_generator=anchors,
            head=RetinaNetHead(fpn_channels, per_cell, columns, head_depth),
            proposal_matcher=matcher(numerics, 0.5, 0.4, least=0.0),
            score_thresh=score_threshold,
            nms_thresh=nms_threshold,
            detections_per_img=detections if detections_per_image is None else detections_per_image,
            topk_candidates=topk_candidates,
            _skip_resize=True,
        )
        self.preset = numerics
        self.box_coder = box_coder(numerics, (1.0, 1.0, 1.0, 1.0))
        if numerics.size_rounding == "nearest":
            self.transform = ReferenceTransform(numerics, min_size, max_size, *colours)
        if numerics.loss_normaliser == "running_mean":
            self.register_buffer("loss_normaliser", torch.tensor(_FIRST_MEAN))
        self.complete(settled, pyramid_levels, opened, "retinanet_{}_fpn")

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
    ) -> dict[str, Tensor]:
        """``classification`` and ``bbox_regression`` of a batch.

        Args:
            targets: ``boxes`` (M, 4) and ``labels`` (M,) of each image, in the network's frame.
            head_outputs: ``cls_logits`` (B, N, columns), ``bbox_regression`` (B, N, 4).
            anchors: (N, 4) of each image.
        """
        if self.preset.loss_normaliser == "image":
            losses: dict[str, Tensor] = super().compute_loss(targets, head_outputs, anchors)
            return losses
        pairs = zip(targets, anchors, strict=True)
        matched = [assign(self.proposal_matcher, target, of_image) for target, of_image in pairs]
        sums = summed_losses(targets, head_outputs, anchors, matched, self.box_coder)
        normaliser = self._normaliser(torch.stack([(match >= 0).sum() for match in matched]))
        return {name: loss / normaliser for name, loss in sums.items()}

    def _normaliser(self, positives: Tensor) -> Tensor:
        """What the losses of a batch with so many positives in each image are divided by."""
        if self.preset.loss_normaliser == "batch":
            return positives.clamp(min=1).sum()
        count = positives.sum().clamp(min=1)
        self.loss_normaliser.mul_(_MOMENTUM).add_((1 - _MOMENTUM) * count)
        return self.loss_normaliser.clone()  # the next step overwrites what backward needs

    def postprocess_detections(
        self,
        head_outputs: dict[str, list[Tensor]],
        anchors: list[list[Tensor]],
        image_shapes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Detections of each image, in the network's frame.

        Args:
            head_outputs: ``cls_logits`` (B, n, columns), ``bbox_regression`` (B, n, 4) of each
                level.
            anchors: (n, 4) of each level of each image.
            image_shapes: (height, width) of each image's content.

        Returns:
            ``boxes`` (D, 4), ``scores`` (D,) and ``labels`` (D,) of each image.
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
        """Boxes (n, 4), scores (n,) and labels (n,) of what scores best on one level."""
        columns = logits.shape[-1]
        scores = torch.sigmoid(logits).flatten()
        kept = torch.where(scores > self.score_thresh)[0]
        scores, order = scores[kept].topk(min(self.topk_candidates, len(kept)))
        kept = kept[order]
        anchor, column = kept // columns, kept % columns
        boxes = self.box_coder.decode_single(deltas[anchor], anchors[anchor])
        return boxes, scores, column if self.preset.unused_column else column + 1

    def _suppress(self, found: dict[str, Tensor], shape: tuple[int, int]) -> dict[str, Tensor]:
        """NMS within each class over all levels, clipping before or after it."""
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

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        # Weights from elsewhere have no mean of positives: it goes on from where it is.
        if "loss_normaliser" in self._buffers:
            state_dict.setdefault(f"{prefix}loss_normaliser", self.loss_normaliser)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def without_limbeck(self) -> str | None:
        """Python that builds and loads this detector with torchvision alone."""
        return retinanet_code(self)


def _extra_levels(settled: Mapping[str, Any], layout: Layout) -> P6P7:
    channels, from_p5 = settled["fpn_channels"], settled["p6_from"] == "P5"
    in_channels = channels if from_p5 else layout.stages[-1].channels
    return P6P7(in_channels, channels, from_p5=from_p5, relu=settled["relu_before_p7"])
