"""RetinaNet (Lin et al., arXiv 1708.02002): torchvision's, with its parts as arguments."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from limbeck.models.detection.detector import Maps, pyramid
from limbeck.models.detection.parts.anchors import anchor_generator
from limbeck.models.detection.parts.backbones import P6P7, Activation, Backbone, layout_of
from limbeck.models.detection.parts.box_coder import BoxCoder, box_coder
from limbeck.models.detection.parts.dense_losses import losses_of_images
from limbeck.models.detection.parts.heads import RetinaNetHead
from limbeck.models.detection.parts.matcher import Matcher, match_anchors, matcher
from limbeck.models.detection.parts.timm_trunks import input_of
from limbeck.models.detection.parts.transform import ReferenceTransform, Targets
from limbeck.models.detection.pyramid.dense import DenseDetector
from limbeck.models.detection.pyramid.plain import retinanet_code
from limbeck.models.detection.settling import first_not_none, settle
from limbeck.models.norms import LastNorm, Norm
from limbeck.models.resnet import BasicBlocks
from limbeck.presets import RETINANET, PresetName, retinanet_sizes
from limbeck.trunks import Layout

_EXTRA = "a RetinaNet's extra levels come as a pair (torchvision's LastLevelP6P7)"
_MOMENTUM = 0.9  # of detectron2's running mean of positives
_FIRST_MEAN = 100.0  # what that mean begins with

P6From = Literal["P5", "C5"]


class RetinaNet(DenseDetector):
    """RetinaNet on a feature pyramid (Lin et al., arXiv 1708.02002).

    It is torchvision's ``RetinaNet`` over a light or a heavy backbone, and state dicts can be
    exchanged between the two. It takes images and gives losses or detections as all of limbeck's
    detectors do, see :class:`limbeck.models.detection.detector.Detector`. Its losses are
    ``classification``, the focal loss, and ``bbox_regression``.

    With the preset ``detectron2`` it has one buffer more than torchvision's, the running mean of
    positive anchors that its losses are divided by; weights without it load all the same. Under DDP
    all processes divide by the first one's mean, so that checkpoints are exact; in detectron2 each
    has its own.

    Attributes:
        numerics: The arguments without which the same weights give other outputs, see
            :class:`limbeck.models.build.LimbeckModel`.
        backbone: The trunk and the feature pyramid over it.
        preset: The numerics of the library whose outputs and losses this detector gives.
        head: What predicts the classes and the boxes of all anchors.
        anchor_generator: What makes the anchors of the maps.
        box_coder: What encodes boxes as what the head predicts, and decodes them.
        proposal_matcher: What gives anchors their ground truth.
        loss_normaliser: The running mean of positive anchors, with the preset ``detectron2`` alone.
        score_thresh: The score that a detection has to exceed.
        topk_candidates: The greatest number of detections of each level that enter NMS.

    Args:
        backbone: The trunk: ``resnet18``, ``resnet34``, ``resnet50``, ``resnet101``,
            ``mobilenet_v2``; a network of timm's, ``timm:NAME``; or the shape of a network of
            basic blocks, :class:`limbeck.models.BasicBlocks`.
        num_classes: The number of foreground classes. Their labels count from 1. With the preset
            ``torchvision`` the head has one column more than there are classes, the first one,
            which is never used; with the others label k is column k - 1.
        preset: The library whose outputs and losses this detector gives with its weights:
            ``torchvision``, ``detectron2`` or ``mmdetection``, see :mod:`limbeck.presets`. Default
            (None): as the weights say, otherwise ``torchvision``.
        weights: The weights to begin with, as :func:`limbeck.models.load_weights` takes them.
            Default (None): the detector is initialised afresh.
        levels: The first and the last level of the pyramid. Level k has a stride of 2**k pixels.
            The pyramid ends at the trunk's last level or below it, or two above it (P6 and P7).
        fpn_channels: The number of channels of the pyramid and of the head.
        head_depth: The number of convolutions in each of the head's two towers.
        anchor_sizes: The sizes of the anchors at each level, in pixels. Default (None): as the
            weights say, otherwise three an octave, from 4 times the stride.
        aspect_ratios: The heights of the anchors over their widths.
        frozen_stages: The number of stages of the trunk that are not trained: 1 is the stem, 2 is
            the stem and C2.
        norm: What the batch normalisations of the trunk do, see
            :func:`limbeck.models.norms.convert_norms`. A trunk that is trained from scratch needs
            ``trained``.
        last_norm: What replaces the normalisations in the last block of each trained stage:
            ``group`` or ``synchronised``, with which a student of MGD learns the teacher's
            features. Default (None): nothing does.
        stride_in_1x1: The bottlenecks have their stride in the first 1x1 convolution, as in
            detectron2's weights of MSRA. Default (None): as the weights say, otherwise not.
        p6_from: The map that P6 is computed from, ``P5`` or ``C5``. Default (None): as the weights
            say, otherwise as the preset has it.
        relu_before_p7: There is a ReLU between P6 and P7. Default (None): as the weights say,
            otherwise as the preset has it.
        activation: The activation of MobileNetV2: ``leaky_relu``, as in HEAD. Default (None): as
            the weights say, otherwise its own ReLU6.
        min_size: The shorter side of images in evaluation mode, in pixels.
        max_size: The bound of the longer side of images in evaluation mode, in pixels.
        mean: The mean of each input channel, RGB in [0, 1]. Default (None): as the weights say,
            otherwise as timm says of its network, and ImageNet's for others.
        std: The standard deviation of each input channel. Default (None): as the weights say,
            otherwise as timm says of its network, and ImageNet's for others.
        score_threshold: The score that a detection has to exceed.
        nms_threshold: The IoU above which the lower of two detections of a class is dropped.
        detections_per_image: The greatest number of detections in an image. Default (None): 300
            with the preset ``torchvision``, and 100 with the others.
        topk_candidates: The greatest number of detections of each level that enter NMS.

    Raises:
        ValueError: An argument, which is named, does not suit the backbone or the weights.

    Example:
        >>> import torch
        >>> from limbeck import models
        >>> detector = models.RetinaNet("resnet18", num_classes=3, min_size=64, norm="trained")
        >>> images = [torch.rand(3, 64, 96)]
        >>> target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
        >>> list(detector(images, [target]))
        ['classification', 'bbox_regression']
        >>> list(detector.eval()(images)[0])
        ['boxes', 'scores', 'labels']

        A lighter one ends at the trunk's last level, and has a short head:

        >>> shape = models.BasicBlocks(depths=(1, 1, 1, 1), widths=(16, 16, 32, 32))
        >>> light = models.RetinaNet(shape, 3, levels=(3, 5), fpn_channels=32, head_depth=1)
        >>> light.strides
        (8, 16, 32)
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
    box_coder: BoxCoder
    proposal_matcher: Matcher
    loss_normaliser: Tensor  # with detectron2's preset alone

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
        usual = input_of(backbone, weights)
        opened, settled = settle(RetinaNet, locals(), usual, presets=RETINANET)
        numerics = RETINANET[settled["preset"]]
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
        super().__init__(
            fpn,
            columns,
            min_size=min_size,
            max_size=max_size,
            image_mean=list(settled["mean"]),
            image_std=list(settled["std"]),
            anchor_generator=anchors,
            head=RetinaNetHead(fpn_channels, per_cell, columns, head_depth),
            proposal_matcher=matcher(numerics, 0.5, 0.4, least=0.0),
            score_thresh=score_threshold,
            nms_thresh=nms_threshold,
            detections_per_img=first_not_none(detections_per_image, numerics.detections_per_image),
            topk_candidates=topk_candidates,
            _skip_resize=True,
        )
        self.preset = numerics
        self.box_coder = box_coder(numerics, (1.0, 1.0, 1.0, 1.0))
        if numerics.size_rounding == "nearest":
            self.transform = ReferenceTransform.like(self.transform, numerics)
        if numerics.loss_normaliser == "running_mean":
            self.register_buffer("loss_normaliser", torch.tensor(_FIRST_MEAN))
        self.complete(settled, pyramid_levels, opened, "retinanet_{}_fpn")

    def losses_of(self, batch: ImageList, maps: Maps, targets: Targets) -> dict[str, Tensor]:
        """The losses of all anchors of a batch, from its maps on."""
        levels = list(maps.values())
        anchors = self.anchor_generator(batch, levels)
        return self.compute_loss(targets, self.head(levels), anchors)

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
    ) -> dict[str, Tensor]:
        """The losses of a batch.

        Args:
            targets: The ``boxes`` (M, 4) and ``labels`` (M,) of each image, in the network's frame.
            head_outputs: The ``cls_logits`` (B, N, columns) and the ``bbox_regression`` (B, N, 4).
            anchors: The anchors of each image, (N, 4).

        Returns:
            The losses ``classification`` and ``bbox_regression``.
        """
        pairs = zip(targets, anchors, strict=True)
        matched = [
            match_anchors(self.proposal_matcher, target, of_image) for target, of_image in pairs
        ]
        first = 0 if self.preset.unused_column else 1
        losses, positives = losses_of_images(
            targets, head_outputs, anchors, matched, self.box_coder, first
        )
        if self.preset.loss_normaliser == "image":
            return {name: _mean(each, positives) for name, each in losses.items()}
        normaliser = self._normaliser(positives)
        return {name: torch.stack(each).sum() / normaliser for name, each in losses.items()}

    def _normaliser(self, positives: list[int]) -> Tensor | int:
        """What the losses of a batch with so many positives in each image are divided by."""
        if self.preset.loss_normaliser == "batch":
            return sum(max(count, 1) for count in positives)
        count = max(sum(positives), 1)
        mean = self.loss_normaliser
        mean.mul_(_MOMENTUM).add_((1 - _MOMENTUM) * torch.full_like(mean, count))
        return self.loss_normaliser.clone()  # the next step overwrites what backward needs

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        # Weights from elsewhere have no mean of positives: it goes on from where it is.
        if "loss_normaliser" in self._buffers:
            state_dict.setdefault(f"{prefix}loss_normaliser", self.loss_normaliser)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def without_limbeck(self) -> str | None:
        """Python that builds and loads this detector with torchvision alone."""
        return retinanet_code(self)


def _mean(losses: list[Tensor], positives: list[int]) -> Tensor:
    """The mean over the images of what each one's losses are for each of its positives."""
    shares = (loss / max(1, count) for loss, count in zip(losses, positives, strict=True))
    total: Tensor = sum(shares, start=torch.zeros_like(losses[0]))
    return total / len(losses)


def _extra_levels(settled: Mapping[str, Any], layout: Layout) -> P6P7:
    channels, from_p5 = settled["fpn_channels"], settled["p6_from"] == "P5"
    in_channels = channels if from_p5 else layout.stages[-1].channels
    return P6P7(in_channels, channels, from_p5=from_p5, relu=settled["relu_before_p7"])
