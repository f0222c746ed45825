"""Faster R-CNN on one map (Ren et al., arXiv 1506.01497), without a feature pyramid.

It is torchvision's with its parts as arguments: VGG with its fully connected layers, as in
Fine-grained Feature Imitation (Wang et al., CVPR 2019), or the C4 of a ResNet with its last stage
as the box head (He et al., arXiv 1512.03385).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from limbeck.checkpoints.tensors import Tensors
from limbeck.models.detection.c4.pooling import Pooling, SingleMapPooling
from limbeck.models.detection.c4.presets import C4_PRESETS, C4Preset, C4PresetName
from limbeck.models.detection.c4.trunks import (
    LEVEL,
    C4Trunk,
    c4_layout_of,
    trunk_and_head,
    trunk_and_head_of_classifier,
)
from limbeck.models.detection.detector import TwoStageDetector
from limbeck.models.detection.parts.backbones import Activation
from limbeck.models.detection.parts.heads import BoxPredictor, ClassAgnosticBoxPredictor
from limbeck.models.detection.parts.roi_align import RoIAlign
from limbeck.models.detection.parts.roi_heads import RoIHeads
from limbeck.models.detection.parts.rpn import RegionProposalNetwork
from limbeck.models.detection.settling import first_not_none, settle
from limbeck.models.norms import Norm
from limbeck.models.resnet import BasicBlocks

_SIZES = (128.0, 256.0, 512.0)


class FasterRCNNC4(TwoStageDetector):
    """Faster R-CNN on one map of stride 16, without a pyramid (Ren et al., arXiv 1506.01497).

    It is torchvision's ``FasterRCNN`` on such a map. It takes images and gives losses or detections
    as all of limbeck's detectors do, see :class:`limbeck.models.detection.detector.Detector`; its
    losses are those of :class:`limbeck.models.FasterRCNN`. With the preset ``fgfi``, too, boxes are
    exclusive: they are the original's with 1 added to x2 and y2.

    Attributes:
        numerics: The arguments without which the same weights give other outputs, see
            :class:`limbeck.models.build.LimbeckModel`.
        backbone: The trunk up to C4.
        rpn: The region proposal network, with the numerics of the preset.
        roi_heads: What samples, scores and suppresses regions, with the numerics of the preset.

    Args:
        backbone: The trunk: ``vgg11``, ``vgg16``, ``resnet18``, ``resnet34``, ``resnet50``,
            ``resnet101``, ``mobilenet_v2``, or the shape of a network of basic blocks that has a
            stage of stride 16, :class:`limbeck.models.BasicBlocks`.
        num_classes: The number of foreground classes. Their labels count from 1; 0 is the
            background.
        preset: The library whose outputs and losses this detector gives: ``torchvision``,
            ``detectron2`` or ``fgfi``, see :mod:`limbeck.models.detection.c4.presets`. Default
            (None): as the weights say, otherwise ``torchvision``.
        weights: The weights to begin with, as :func:`limbeck.models.load_weights` takes them. Those
            of a classifier fill the family's own box head, too. Default (None): the detector is
            initialised afresh.
        box_head_channels: The number of channels of two fully connected layers on every region.
            Default (None): the family's own box head, which is a VGG's classifier without its last
            layer, or the stages after C4 and their mean.
        anchor_sizes: The sizes of the anchors in one tuple, in pixels. Default (None): as the
            weights say, otherwise ``((128, 256, 512),)``.
        aspect_ratios: The heights of the anchors over their widths.
        frozen_stages: The number of stages of the trunk that are not trained: 1 is the stem, 2 is
            the stem and C2. The stages of a VGG are its convolutions. Fine-grained Feature
            Imitation freezes 4 of VGG16 (conv1_1 to conv2_2) and 3 of VGG11 (conv1 to conv3_1).
        norm: What the batch normalisations of the trunk and of the box head do, see
            :func:`limbeck.models.norms.convert_norms`. A VGG has none. A trunk that is trained from
            scratch needs ``trained``.
        stride_in_1x1: The bottlenecks have their stride in the first 1x1 convolution, as in
            detectron2's weights of MSRA. Default (None): as the weights say, otherwise not.
        activation: The activation of MobileNetV2: ``leaky_relu``, as in HEAD. Default (None): as
            the weights say, otherwise its own ReLU6.
        roi_aligned: RoIAlign has its half pixel corrected, and as many samples as a bin has pixels.
            Default (None): as the weights say, otherwise as the preset has it.
        pooling: How regions are pooled in place of RoIAlign: ``align``, ``crop`` or ``pool``, see
            :mod:`limbeck.models.detection.c4.pooling`. Default (None): as the weights say,
            otherwise ``align`` with the preset ``fgfi``, and RoIAlign with the others.
        class_agnostic: All classes share a region's box. Default (None): as the weights say,
            otherwise each class has its own.
        min_size: The shorter side of images in evaluation mode, in pixels. Default (None): 600 with
            the preset ``fgfi``, and 800 with the others.
        max_size: The bound of the longer side of images in evaluation mode, in pixels. Default
            (None): no bound with the preset ``fgfi``, and 1333 with the others.
        mean: The mean of each input channel, RGB in [0, 1]. Default (None): as the weights say,
            otherwise ImageNet's.
        std: The standard deviation of each input channel. Default (None): as the weights say,
            otherwise ImageNet's.
        score_threshold: The score that a detection has to exceed. Default (None): 0 with the preset
            ``fgfi``, and 0.05 with the others.
        nms_threshold: The IoU above which the lower of two detections of a class is dropped.
            Default (None): 0.3 with the preset ``fgfi``, and 0.5 with the others.
        detections_per_image: The greatest number of detections in an image.

    Raises:
        ValueError: An argument, which is named, does not suit the backbone or the weights.

    Example:
        >>> import torch
        >>> from limbeck import models
        >>> shape = models.BasicBlocks(depths=(1, 1, 1, 1), widths=(8, 8, 16, 16))
        >>> detector = models.FasterRCNNC4(shape, num_classes=3, min_size=64, norm="trained")
        >>> images = [torch.rand(3, 64, 96)]
        >>> target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
        >>> list(detector(images, [target]))
        ['loss_classifier', 'loss_box_reg', 'loss_objectness', 'loss_rpn_box_reg']
        >>> list(detector.eval()(images)[0])
        ['boxes', 'labels', 'scores']
    """

    numerics: ClassVar[Mapping[str, Any]] = {
        "preset": "torchvision",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "stride_in_1x1": False,
        "activation": None,
        "anchor_sizes": None,
        "aspect_ratios": (0.5, 1.0, 2.0),
        "roi_aligned": None,
        "pooling": None,
        "class_agnostic": False,
    }
    backbone: C4Trunk  # type: ignore[assignment]  # no pyramid, and no body in it
    rpn: RegionProposalNetwork
    roi_heads: RoIHeads

    def __init__(
        self,
        backbone: str | BasicBlocks,
        num_classes: int,
        *,
        preset: C4PresetName | None = None,
        weights: str | Path | None = None,
        box_head_channels: int | None = None,
        anchor_sizes: Sequence[Sequence[float]] | None = None,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        frozen_stages: int = 0,
        norm: Norm = "frozen",
        stride_in_1x1: bool | None = None,
        activation: Activation | None = None,
        roi_aligned: bool | None = None,
        pooling: Pooling | None = None,
        class_agnostic: bool | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        score_threshold: float | None = None,
        nms_threshold: float | None = None,
        detections_per_image: int = 100,
    ) -> None:
        opened, settled = settle(FasterRCNNC4, locals(), presets=C4_PRESETS)
        numerics = C4_PRESETS[settled["preset"]]
        trunk, box_head, width, size = trunk_and_head(
            backbone,
            box_head_channels,
            norm=norm,
            frozen_stages=frozen_stages,
            stride_in_1x1=settled["stride_in_1x1"],
            activation=settled["activation"],
        )
        anchors = numerics.anchors(settled["anchor_sizes"] or [_SIZES], aspect_ratios)
        per_cell = anchors.num_anchors_per_location()[0]
        predictor = ClassAgnosticBoxPredictor if settled["class_agnostic"] else BoxPredictor
        super().__init__(
            trunk,
            min_size=min_size or numerics.min_size,
            max_size=max_size or numerics.max_size,
            image_mean=list(settled["mean"]),
            image_std=list(settled["std"]),
            rpn_anchor_generator=anchors,
            box_roi_pool=RoIAlign((LEVEL, LEVEL), aligned=settled["roi_aligned"], size=size),
            box_head=box_head,
            box_predictor=predictor(width, num_classes + 1),
            rpn_head=numerics.rpn_head(trunk.out_channels, per_cell),
            box_score_thresh=first_not_none(score_threshold, numerics.score_threshold),
            box_nms_thresh=first_not_none(nms_threshold, numerics.nms_threshold),
            box_detections_per_img=detections_per_image,
            _skip_resize=True,
        )
        self.preset = numerics
        self._take_parts(numerics)
        if settled["pooling"] is not None:
            self.roi_heads.box_roi_pool = SingleMapPooling(settled["pooling"], 2**LEVEL, size)
        self.complete(settled, (LEVEL,), opened)

    def _take_parts(self, numerics: C4Preset) -> None:
        """Replace torchvision's parts by those that have the preset's numerics."""
        if numerics.transform is not None:
            self.transform = numerics.transform.like(self.transform, numerics)
            self.transform.size_divisible = 1  # no levels have to fit together
        if numerics.initialise is not None:
            numerics.initialise(self.roi_heads.box_predictor)
        self.rpn = numerics.rpn(self.rpn.anchor_generator, self.rpn.head, numerics)
        names = ("training", "testing")
        self.rpn._pre_nms_top_n = dict(zip(names, numerics.before_nms, strict=True))
        self.rpn._post_nms_top_n = dict(zip(names, numerics.proposals, strict=True))
        self.roi_heads = numerics.roi_heads(self.roi_heads, numerics)

    def trunk_for(self, tensors: Tensors) -> tuple[nn.Module, Tensors]:
        """The trunk and the box head, which hold the weights of a classifier."""
        layout = c4_layout_of(_backbone(self.arguments))
        box_head = self.roi_heads.box_head
        return trunk_and_head_of_classifier(layout, self.backbone, box_head, tensors)

    def without_limbeck(self) -> str | None:
        """None: torchvision alone has neither these box heads nor the numerics of these presets."""
        return None


def _backbone(arguments: Mapping[str, Any]) -> str | BasicBlocks:
    stated = arguments["backbone"]
    return stated if isinstance(stated, str) else BasicBlocks(**stated)
