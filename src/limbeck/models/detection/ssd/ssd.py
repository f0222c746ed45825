"""SSD (Liu et al., arXiv 1512.02325): torchvision's, over its own backbones and over light ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection._utils import SSDMatcher
from torchvision.models.detection.image_list import ImageList

from limbeck.models.detection.detector import Detector, Maps
from limbeck.models.detection.parts.box_coder import BoxCoder
from limbeck.models.detection.parts.heads import SSDHead, SSDLiteHead
from limbeck.models.detection.parts.matcher import match_anchors
from limbeck.models.detection.parts.roi_heads import DELTA_WEIGHTS
from limbeck.models.detection.parts.transform import Targets
from limbeck.models.detection.ssd.backbones import (
    LITE_NORM,
    VGG16,
    LightBackbone,
    MapNorm,
    MobileNetV3,
)
from limbeck.models.detection.ssd.boxes import default_boxes
from limbeck.models.detection.ssd.defaults import Settled, name_of, settle_ssd
from limbeck.models.detection.ssd.plain import ssd_code
from limbeck.models.norms import Norm
from limbeck.models.resnet import BasicBlocks
from limbeck.presets import OF_EVERY_DETECTOR

_BUILDERS = {"vgg16": "ssd300_{}", "mobilenet_v3_large": "ssdlite320_{}"}


class SSD(Detector, detection.ssd.SSD):  # type: ignore[misc]  # torchvision is untyped
    """SSD and SSDLite (Liu et al., arXiv 1512.02325), over torchvision's backbones or a light one.

    It is torchvision's ``SSD``, and state dicts can be exchanged between the two. It takes images
    and gives losses or detections as all of limbeck's detectors do, see
    :class:`limbeck.models.detection.detector.Detector`; the data pipeline should give all images of
    training the size ``image_size``. Its losses are ``classification`` and ``bbox_regression``. As
    in torchvision, the number of negatives follows that of the positives of an image (hard negative
    mining, section 2.2 of the paper): an image without boxes teaches nothing, since its losses and
    gradients are 0.

    Args:
        backbone: The trunk: ``vgg16``, which makes torchvision's SSD300, for images of 268 pixels
            or more; ``mobilenet_v3_large``, which makes its SSDLite; or a light one with strided
            blocks above it: ``resnet18``, ``resnet34``, ``resnet50``, ``resnet101``,
            ``mobilenet_v2``; a network of timm's with maps of several strides, ``timm:NAME``;
            or the shape of a network of basic blocks, :class:`limbeck.models.BasicBlocks`.
        num_classes: The number of foreground classes. Their labels count from 1; 0 is the
            background.
        weights: The weights to begin with, as :func:`limbeck.models.load_weights` takes them. For
            ``vgg16``, ``torchvision:backbone`` is torchvision's ``IMAGENET1K_FEATURES``. Default
            (None): the detector is initialised afresh.
        image_size: The (height, width) of the network's images, in pixels. Default (None): as the
            weights say, otherwise 320 x 320 for ``mobilenet_v3_large``, and 300 x 300 for the
            others.
        levels: The first and the last level of a light backbone. A cell of level k has about 2**k
            pixels, and strided blocks make the levels above the trunk's last one. Default (None): 3
            to 8, the grids of SSD300.
        extra_channels: The numbers of channels of a light backbone's strided blocks. The last
            number goes for all that follow. Default (None): 512, then 256.
        lite: The heads and strided blocks of a light backbone are depthwise separable, as in
            SSDLite. Default (None): they are not.
        scales: The sides of the default boxes as parts of the image's sides, one for each level and
            one more. Default (None): as the weights say, otherwise torchvision's, and 0.15 to 0.9,
            evenly spaced, for a light backbone.
        aspect_ratios: The ratios of the default boxes at each level, beside 1. Each of them is also
            taken the other way round. Default (None): as the weights say, otherwise torchvision's,
            and 2 and 3 for a light backbone.
        steps: The distance from box to box at each level, in pixels. Default (None): as the weights
            say, otherwise torchvision's for ``vgg16`` at 300 x 300; there are as many boxes as the
            map has cells for the others.
        frozen_stages: The number of stages of the trunk that are not trained: 1 is the stem, 2 is
            the stem and C2.
        norm: What the batch normalisations of the trunk do, see
            :func:`limbeck.models.norms.convert_norms`. ``vgg16`` has none. A trunk that is trained
            from scratch needs ``trained``.
        reduced_tail: The last stage of ``mobilenet_v3_large`` has half the channels. Default
            (None): as the weights say, otherwise it has, as in torchvision's SSDLite without
            ImageNet's weights.
        mean: The mean of each input channel, RGB in [0, 1]. Default (None): as the weights say,
            otherwise torchvision's for this backbone. The file of a VGG16 classifier does not say
            it, so there it has to be given.
        std: The standard deviation of each input channel. Default (None): as the weights say,
            otherwise torchvision's for this backbone. With the file of a VGG16 classifier it has to
            be given.
        score_threshold: The score that a detection has to exceed. Default (None): torchvision's,
            which is 0.001 for ``mobilenet_v3_large``, and 0.01 for the others.
        nms_threshold: The IoU above which the lower of two detections of a class is dropped.
            Default (None): torchvision's, which is 0.55 for ``mobilenet_v3_large``, and 0.45 for
            the others.
        detections_per_image: The greatest number of detections in an image. Default (None):
            torchvision's, which is 300 for ``mobilenet_v3_large``, and 200 for the others.
        topk_candidates: The greatest number of detections of each class that enter NMS. Default
            (None): torchvision's, which is 300 for ``mobilenet_v3_large``, and 400 for the others.

    Attributes:
        numerics: The arguments without which the same weights give other outputs, see
            :class:`limbeck.models.build.LimbeckModel`.
        head: What predicts the classes and the boxes of all default boxes.
        anchor_generator: What makes the default boxes of the maps.
        proposal_matcher: What gives default boxes their ground truth.

    Raises:
        ValueError: An argument, which is named, does not suit the backbone or the weights.

    Example:
        >>> import torch
        >>> from limbeck import models
        >>> detector = models.SSD(
        ...     "resnet18", num_classes=3, levels=(3, 7), image_size=(128, 128), norm="trained"
        ... )
        >>> images = [torch.rand(3, 128, 128)]
        >>> target = {"boxes": torch.tensor([[8.0, 8.0, 90.0, 90.0]]), "labels": torch.tensor([1])}
        >>> list(detector(images, [target]))
        ['bbox_regression', 'classification']
        >>> list(detector.eval()(images)[0])
        ['boxes', 'scores', 'labels']
    """

    numerics: ClassVar[Mapping[str, Any]] = {
        "mean": None,
        "std": None,
        "image_size": None,
        "scales": None,
        "aspect_ratios": None,
        "steps": None,
        "reduced_tail": None,
        "stride_in_1x1": False,
    }
    head: nn.Module
    anchor_generator: nn.Module
    proposal_matcher: SSDMatcher

    def __init__(
        self,
        backbone: str | BasicBlocks,
        num_classes: int,
        *,
        weights: str | Path | None = None,
        image_size: tuple[int, int] | None = None,
        levels: tuple[int, int] | None = None,
        extra_channels: Sequence[int] | None = None,
        lite: bool | None = None,
        scales: Sequence[float] | None = None,
        aspect_ratios: Sequence[Sequence[float]] | None = None,
        steps: Sequence[float] | None = None,
        frozen_stages: int = 0,
        norm: Norm = "frozen",
        reduced_tail: bool | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        score_threshold: float | None = None,
        nms_threshold: float | None = None,
        detections_per_image: int | None = None,
        topk_candidates: int | None = None,
    ) -> None:
        opened, settled, arguments = settle_ssd(SSD, locals())
        boxes = default_boxes(settled.count, settled.scales, settled.aspect_ratios, settled.steps)
        maps = _backbone(backbone, settled, extra_channels, norm, frozen_stages)
        height, width = settled.image_size
        super().__init__(
            maps,
            boxes,
            (width, height),
            num_classes + 1,
            image_mean=list(settled.mean),
            image_std=list(settled.std),
            head=_head(
                backbone, settled, maps.out_channels, boxes.num_anchors_per_location(), num_classes
            ),
            score_thresh=settled.score_threshold,
            nms_thresh=settled.nms_threshold,
            detections_per_img=settled.detections_per_image,
            topk_candidates=settled.topk_candidates,
            _skip_resize=True,
        )
        self.box_coder = BoxCoder(DELTA_WEIGHTS)
        self.preset = OF_EVERY_DETECTOR["torchvision"]
        every_level = tuple(range(settled.levels[0], settled.levels[1] + 1))
        self.complete(arguments, every_level, opened, _BUILDERS.get(name_of(backbone), ""))

    def losses_of(self, batch: ImageList, maps: Maps, targets: Targets) -> dict[str, Tensor]:
        """The losses of all default boxes of a batch, from its maps on."""
        levels = list(maps.values())
        anchors = self.anchor_generator(batch, levels)
        pairs = zip(targets, anchors, strict=True)
        matched = [
            match_anchors(self.proposal_matcher, target, of_image) for target, of_image in pairs
        ]
        loss: Any = self.compute_loss  # torchvision's, untyped
        return cast(dict[str, Tensor], loss(targets, self.head(levels), anchors, matched))

    def without_limbeck(self) -> str | None:
        """Python that builds and loads this detector with torchvision alone."""
        return ssd_code(self)


def _backbone(
    backbone: str | BasicBlocks,
    settled: Settled,
    channels: Sequence[int] | None,
    norm: Norm,
    frozen_stages: int,
) -> VGG16 | MobileNetV3 | LightBackbone:
    name = name_of(backbone)
    if name == "vgg16":
        return VGG16(settled.image_size, frozen_stages)
    if name == "mobilenet_v3_large":
        return MobileNetV3(
            reduced_tail=settled.reduced_tail, norm=norm, frozen_stages=frozen_stages
        )
    return LightBackbone(
        backbone,
        settled.levels,
        settled.image_size,
        channels=channels,
        lite=settled.lite,
        norm=norm,
        frozen_stages=frozen_stages,
    )


def _head(
    backbone: str | BasicBlocks,
    settled: Settled,
    channels: Sequence[int],
    per_cell: list[int],
    num_classes: int,
) -> nn.Module:
    if not settled.lite:
        return SSDHead(list(channels), per_cell, num_classes + 1)
    norm = LITE_NORM if name_of(backbone) == "mobilenet_v3_large" else MapNorm
    return SSDLiteHead(list(channels), per_cell, num_classes + 1, norm)
