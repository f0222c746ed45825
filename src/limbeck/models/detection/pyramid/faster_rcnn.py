"""Faster R-CNN with a feature pyramid: torchvision's, with its parts as arguments.

The papers are Ren et al., arXiv 1506.01497, and Lin et al., arXiv 1612.03144.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from limbeck.models.detection.detector import TwoStageDetector, pyramid
from limbeck.models.detection.parts.anchors import anchor_generator
from limbeck.models.detection.parts.backbones import Activation, Backbone, layout_of
from limbeck.models.detection.parts.heads import BoxPredictor, RPNHead
from limbeck.models.detection.parts.roi_align import ROI_SIZE, RoIAlign
from limbeck.models.detection.parts.roi_heads import RoIHeads
from limbeck.models.detection.parts.rpn import RegionProposalNetwork
from limbeck.models.detection.parts.timm_trunks import input_of
from limbeck.models.detection.parts.transform import ReferenceTransform
from limbeck.models.detection.pyramid.plain import faster_rcnn_code
from limbeck.models.detection.settling import settle
from limbeck.models.norms import Norm
from limbeck.models.resnet import BasicBlocks
from limbeck.presets import FASTER_RCNN, PresetName, rpn_sizes

_EXTRA = "a Faster R-CNN has one extra level (torchvision's LastLevelMaxPool)"


class FasterRCNN(TwoStageDetector):
    """Faster R-CNN on a feature pyramid (Ren et al., arXiv 1506.01497; Lin et al., 1612.03144).

    It is torchvision's ``FasterRCNN`` over a light or a heavy backbone, and state dicts can be
    exchanged between the two. It takes images and gives losses or detections as all of limbeck's
    detectors do, see :class:`limbeck.models.detection.detector.Detector`. Its losses are
    ``loss_objectness`` and ``loss_rpn_box_reg`` of the region proposal network, ``loss_classifier``
    and ``loss_box_reg`` of the box head.

    Attributes:
        numerics: The arguments without which the same weights give other outputs, see
            :class:`limbeck.models.build.LimbeckModel`.
        backbone: The trunk and the feature pyramid over it.
        rpn: The region proposal network, with the numerics of the preset.
        roi_heads: What samples, scores and suppresses regions, with the numerics of the preset.

    Args:
        backbone: The trunk: ``resnet18``, ``resnet34``, ``resnet50``, ``resnet101``,
            ``mobilenet_v2``; a network of timm's, ``timm:NAME``; or the shape of a network of
            basic blocks, :class:`limbeck.models.BasicBlocks`.
        num_classes: The number of foreground classes. Their labels count from 1; 0 is the
            background.
        preset: The library whose outputs and losses this detector gives with its weights:
            ``torchvision``, ``detectron2`` or ``mmdetection``, see :mod:`limbeck.presets`. Default
            (None): as the weights say, otherwise ``torchvision``.
        weights: The weights to begin with, as :func:`limbeck.models.load_weights` takes them.
            Default (None): the detector is initialised afresh.
        levels: The first and the last level of the pyramid. Level k has a stride of 2**k pixels.
            The pyramid ends at the trunk's last level or below it, or one above it (P6, which the
            region proposal network alone sees).
        fpn_channels: The number of channels of the pyramid.
        box_head_channels: The number of channels of the two fully connected layers on every region.
        anchor_sizes: The sizes of the anchors at each level, in pixels. Default (None): as the
            weights say, otherwise 8 times the stride.
        aspect_ratios: The heights of the anchors over their widths.
        frozen_stages: The number of stages of the trunk that are not trained: 1 is the stem, 2 is
            the stem and C2.
        norm: What the batch normalisations of the trunk do, see
            :func:`limbeck.models.norms.convert_norms`. A trunk that is trained from scratch needs
            ``trained``.
        stride_in_1x1: The bottlenecks have their stride in the first 1x1 convolution, as in
            detectron2's weights of MSRA. Default (None): as the weights say, otherwise not.
        activation: The activation of MobileNetV2: ``leaky_relu``, as in HEAD. Default (None): as
            the weights say, otherwise its own ReLU6.
        roi_aligned: RoIAlign has its half pixel corrected, and as many samples as a bin has pixels.
            Default (None): as the weights say, otherwise as the preset has it.
        min_size: The shorter side of images in evaluation mode, in pixels.
        max_size: The bound of the longer side of images in evaluation mode, in pixels.
        mean: The mean of each input channel, RGB in [0, 1]. Default (None): as the weights say,
            otherwise as timm says of its network, and ImageNet's for others.
        std: The standard deviation of each input channel. Default (None): as the weights say,
            otherwise as timm says of its network, and ImageNet's for others.
        score_threshold: The score that a detection has to exceed.
        nms_threshold: The IoU above which the lower of two detections of a class is dropped.
        detections_per_image: The greatest number of detections in an image.

    Raises:
        ValueError: An argument, which is named, does not suit the backbone or the weights.

    Example:
        >>> import torch
        >>> from limbeck import models
        >>> detector = models.FasterRCNN("resnet18", num_classes=3, min_size=64, norm="trained")
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
    }
    backbone: Backbone
    rpn: RegionProposalNetwork
    roi_heads: RoIHeads

    def __init__(
        self,
        backbone: str | BasicBlocks,
        num_classes: int,
        *,
        preset: PresetName | None = None,
        weights: str | Path | None = None,
        levels: tuple[int, int] = (2, 6),
        fpn_channels: int = 256,
        box_head_channels: int = 1024,
        anchor_sizes: Sequence[Sequence[float]] | None = None,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        frozen_stages: int = 0,
        norm: Norm = "frozen",
        stride_in_1x1: bool | None = None,
        activation: Activation | None = None,
        roi_aligned: bool | None = None,
        min_size: int = 800,
        max_size: int = 1333,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        detections_per_image: int = 100,
    ) -> None:
        usual = input_of(backbone, weights)
        opened, settled = settle(FasterRCNN, locals(), usual, presets=FASTER_RCNN)
        numerics = FASTER_RCNN[settled["preset"]]
        layout = layout_of(backbone)
        pyramid_levels = pyramid(layout, levels, 1, _EXTRA)
        extra = LastLevelMaxPool() if levels[1] > layout.top else None
        sizes = settled["anchor_sizes"] or rpn_sizes(pyramid_levels)
        rounded = numerics.rounded_anchors
        anchors = anchor_generator(pyramid_levels, sizes, aspect_ratios, rounded=rounded)
        fpn = Backbone(
            backbone,
            levels,
            fpn_channels,
            extra,
            norm=norm,
            frozen_stages=frozen_stages,
            stride_in_1x1=settled["stride_in_1x1"],
            activation=settled["activation"],
        )
        super().__init__(
            fpn,
            min_size=min_size,
            max_size=max_size,
            image_mean=list(settled["mean"]),
            image_std=list(settled["std"]),
            rpn_anchor_generator=anchors,
            box_roi_pool=RoIAlign(
                (levels[0], min(levels[1], layout.top)), aligned=settled["roi_aligned"]
            ),
            box_head=TwoMLPHead(fpn_channels * ROI_SIZE**2, box_head_channels),
            box_predictor=BoxPredictor(box_head_channels, num_classes + 1),
            rpn_head=RPNHead(fpn_channels, anchors.num_anchors_per_location()[0]),
            box_score_thresh=score_threshold,
            box_nms_thresh=nms_threshold,
            box_detections_per_img=detections_per_image,
            _skip_resize=True,
        )
        self.preset = numerics
        self.rpn = RegionProposalNetwork(anchors, self.rpn.head, numerics)
        self.roi_heads = RoIHeads(self.roi_heads, numerics)
        if numerics.size_rounding == "nearest":
            self.transform = ReferenceTransform.like(self.transform, numerics)
        self.complete(settled, pyramid_levels, opened, "fasterrcnn_{}_fpn")

    def without_limbeck(self) -> str | None:
        """Python that builds and loads this detector with torchvision alone."""
        return faster_rcnn_code(self)
