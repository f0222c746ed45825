"""GFL, the detector of Generalized Focal Loss (Li et al., NeurIPS 2020, arXiv:2006.04388)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from limbeck.models.detection.detector import Maps, pyramid
from limbeck.models.detection.parts.anchors import anchor_generator
from limbeck.models.detection.parts.atss import ATSSMatcher
from limbeck.models.detection.parts.backbones import P6P7, Activation, Backbone, layout_of
from limbeck.models.detection.parts.distributions import ANCHOR, DistributionCoder
from limbeck.models.detection.parts.generalized_focal import losses_of_batch
from limbeck.models.detection.parts.gfl_head import GFLHead
from limbeck.models.detection.parts.timm_trunks import input_of
from limbeck.models.detection.parts.transform import ReferenceTransform, Targets
from limbeck.models.detection.pyramid.dense import DenseDetector
from limbeck.models.detection.settling import settle
from limbeck.models.norms import LastNorm, Norm
from limbeck.models.resnet import BasicBlocks
from limbeck.presets import GFL as PRESETS

_EXTRA = "a GFL's extra levels, P6 and P7, come as a pair"
_FEWEST = 3  # levels: of two, the mean and the deviation of their IoU would exceed both


class GFL(DenseDetector):
    """GFL, whose boxes are distributions (Li et al., NeurIPS 2020, arXiv:2006.04388).

    The score of a class is the IoU that the box beside it is expected to have (quality focal loss),
    and each side of a box is a distribution over distances (distribution focal loss), which LD
    distils. It has one anchor at each cell, a square of 8 strides that only says which cells learn
    an object (ATSS, see :mod:`limbeck.models.detection.parts.atss`).

    It is mmdetection's detector, with that library's numerics: those of RetinaNet's preset
    ``mmdetection`` (see :mod:`limbeck.presets`), but with P6 from P5. It takes images and gives
    losses or detections as all of limbeck's detectors do, see
    :class:`limbeck.models.detection.detector.Detector`. Its losses are ``classification``,
    ``bbox_regression`` (GIoU) and ``distribution``. Each process divides them by its own positives
    and scores.

    Attributes:
        numerics: The arguments without which the same weights give other outputs, see
            :class:`limbeck.models.build.LimbeckModel`.
        proposal_matcher: What gives anchors their ground truth.
        box_coder: What makes boxes of distributions.

    Args:
        backbone: The trunk: ``resnet18``, ``resnet34``, ``resnet50``, ``resnet101``,
            ``mobilenet_v2``; a network of timm's, ``timm:NAME``; or the shape of a network of
            basic blocks, :class:`limbeck.models.BasicBlocks`.
        num_classes: The number of foreground classes. Their labels count from 1.
        weights: The weights to begin with, as :func:`limbeck.models.load_weights` takes them.
            Default (None): the detector is initialised afresh.
        levels: The first and the last level of the pyramid. Level k has a stride of 2**k pixels.
            The pyramid ends at the trunk's last level or below it, or two above it (P6 and P7).
            ATSS needs three levels at least.
        fpn_channels: The number of channels of the pyramid and of the head, a multiple of 32.
        head_depth: The number of convolutions in each of the head's two towers.
        frozen_stages: The number of stages of the trunk that are not trained: 1 is the stem, 2 is
            the stem and C2.
        norm: What the batch normalisations of the trunk do, see
            :func:`limbeck.models.norms.convert_norms`. A trunk that is trained from scratch needs
            ``trained``.
        last_norm: What replaces the normalisations in the last block of each trained stage:
            ``group`` or ``synchronised``, with which a student of MGD learns the teacher's
            features. Default (None): nothing does.
        stride_in_1x1: The bottlenecks have their stride in the first 1x1 convolution. Default
            (None): as the weights say, otherwise not.
        activation: The activation of MobileNetV2: ``leaky_relu``. Default (None): as the weights
            say, otherwise its own ReLU6.
        min_size: The shorter side of images in evaluation mode, in pixels.
        max_size: The bound of the longer side of images in evaluation mode, in pixels.
        mean: The mean of each input channel, RGB in [0, 1]. Default (None): as the weights say,
            otherwise as timm says of its network, and ImageNet's for others.
        std: The standard deviation of each input channel. Default (None): as the weights say,
            otherwise as timm says of its network, and ImageNet's for others.
        score_threshold: The score that a detection has to exceed.
        nms_threshold: The IoU above which the lower of two detections of a class is dropped.
        detections_per_image: The greatest number of detections in an image.
        topk_candidates: The greatest number of detections of each level that enter NMS.

    Raises:
        ValueError: An argument, which is named, does not suit the backbone or the weights.

    Example:
        >>> import torch
        >>> from limbeck import models
        >>> shape = models.BasicBlocks(depths=(1, 1, 1, 1), widths=(8, 8, 16, 16))
        >>> detector = models.GFL(
        ...     shape, num_classes=3, fpn_channels=32, min_size=64, norm="trained"
        ... )
        >>> images = [torch.rand(3, 64, 96)]
        >>> target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
        >>> list(detector(images, [target]))
        ['classification', 'bbox_regression', 'distribution']
        >>> list(detector.eval()(images)[0])
        ['boxes', 'scores', 'labels']
    """

    numerics: ClassVar[Mapping[str, Any]] = {
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "stride_in_1x1": False,
        "activation": None,
    }
    proposal_matcher: ATSSMatcher
    box_coder: DistributionCoder

    def __init__(
        self,
        backbone: str | BasicBlocks,
        num_classes: int,
        *,
        weights: str | Path | None = None,
        levels: tuple[int, int] = (3, 7),
        fpn_channels: int = 256,
        head_depth: int = 4,
        frozen_stages: int = 0,
        norm: Norm = "frozen",
        last_norm: LastNorm | None = None,
        stride_in_1x1: bool | None = None,
        activation: Activation | None = None,
        min_size: int = 800,
        max_size: int = 1333,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.6,
        detections_per_image: int = 100,
        topk_candidates: int = 1000,
    ) -> None:
        opened, settled = settle(GFL, locals(), input_of(backbone, weights))
        layout = layout_of(backbone)
        pyramid_levels = pyramid(layout, levels, 2, _EXTRA)
        if len(pyramid_levels) < _FEWEST:
            raise ValueError(
                f"levels={levels}: ATSS, which gives a GFL's anchors their objects, needs "
                f"{_FEWEST} levels: with fewer, small objects would go to none. Give more of them."
            )
        extra = P6P7(fpn_channels, fpn_channels, from_p5=True, relu=False)
        sizes = [(float(ANCHOR * 2**level),) for level in pyramid_levels]
        fpn = Backbone(
            backbone,
            levels,
            fpn_channels,
            extra if levels[1] > layout.top else None,
            norm=norm,
            frozen_stages=frozen_stages,
            last_norm=last_norm,
            stride_in_1x1=settled["stride_in_1x1"],
            activation=settled["activation"],
        )
        super().__init__(
            fpn,
            num_classes,
            min_size=min_size,
            max_size=max_size,
            image_mean=list(settled["mean"]),
            image_std=list(settled["std"]),
            anchor_generator=anchor_generator(pyramid_levels, sizes, (1.0,), rounded=False),
            head=GFLHead(fpn_channels, num_classes, head_depth, len(pyramid_levels)),
            proposal_matcher=ATSSMatcher(),
            score_thresh=score_threshold,
            nms_thresh=nms_threshold,
            detections_per_img=detections_per_image,
            topk_candidates=topk_candidates,
            _skip_resize=True,
        )
        self.preset = PRESETS["mmdetection"]
        self.box_coder = DistributionCoder()
        self.transform = ReferenceTransform.like(self.transform, self.preset)
        self.complete(settled, pyramid_levels, opened)

    def losses_of(self, batch: ImageList, maps: Maps, targets: Targets) -> dict[str, Tensor]:
        """The losses of all anchors of a batch, from its maps on."""
        levels = list(maps.values())
        anchors = self.anchor_generator(batch, levels)
        counts = [level.shape[-2] * level.shape[-1] for level in levels]
        return self.compute_loss(targets, self.head(levels), anchors, counts)

    def compute_loss(
        self,
        targets: Targets,
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        counts: Sequence[int],
    ) -> dict[str, Tensor]:
        """The losses of a batch.

        Args:
            targets: The ``boxes`` (M, 4) and ``labels`` (M,) of each image, in the network's frame.
            head_outputs: The ``cls_logits`` (B, N, K) and the ``bbox_regression`` (B, N, 4 * bins).
            anchors: The anchors of each image, (N, 4), which are the same ones.
            counts: The number of anchors of each level.

        Returns:
            The losses ``classification``, ``bbox_regression`` and ``distribution``.
        """
        matched = self.proposal_matcher(targets, anchors[0], counts)
        return losses_of_batch(targets, head_outputs, anchors[0], matched, self.box_coder)

    def without_limbeck(self) -> str | None:
        """None: torchvision has no such detector."""
        return None
