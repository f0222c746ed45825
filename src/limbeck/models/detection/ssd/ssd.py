"""SSD (Liu et al., arXiv 1512.02325): torchvision's, over its own backbones and light ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import nn
from torchvision.models import detection

from limbeck.models.detection.detector import Detector
from limbeck.models.detection.parts.heads import SSDHead, SSDLiteHead
from limbeck.models.detection.ssd.backbones import (
    LITE_NORM,
    VGG16,
    LightBackbone,
    MapNorm,
    MobileNetV3,
)
from limbeck.models.detection.ssd.boxes import default_boxes
from limbeck.models.detection.ssd.defaults import Settled, name_of, settled
from limbeck.models.detection.ssd.plain import ssd_code
from limbeck.models.norms import Norm
from limbeck.models.resnet import BasicBlocks
from limbeck.presets import preset_of

_BUILDERS = {"vgg16": "ssd300_{}", "mobilenet_v3_large": "ssdlite320_{}"}


class SSD(Detector, detection.ssd.SSD):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ``SSD`` over its own backbones or a light one; state dicts interchange.

    In training mode it takes images as they come (geometry belongs to the data pipeline, which
    should give all of them ``image_size``) and gives a dict of losses; in evaluation mode it
    resizes to ``image_size``, and gives a dict of ``boxes`` (xyxy, pixels), ``scores`` and
    ``labels`` for each image. Images are a list of RGB floats in [0, 1], (3, H, W). As in
    torchvision, negatives are counted by the positives of an image (hard negative mining, section
    2.2 of the paper): an image without boxes teaches nothing, its losses and gradients are 0.

    Args:
        backbone: ``vgg16``, torchvision's SSD300, for images of 268 pixels or more;
            ``mobilenet_v3_large``, torchvision's SSDLite; or a light one: ``resnet18``,
            ``resnet34``, ``resnet50``, ``resnet101``, ``mobilenet_v2``, or the shape of a network
            of basic blocks, with strided blocks above it.
        num_classes: foreground classes; labels count from 1, and 0 is the background.
        weights: what :func:`limbeck.models.load_weights` takes; none: initialised afresh. For
            ``vgg16``, ``torchvision:backbone`` is torchvision's ``IMAGENET1K_FEATURES``.
        image_size: (height, width) of the network's images, pixels; none: as the weights say,
            otherwise 320 x 320 for ``mobilenet_v3_large``, 300 x 300 for others.
        levels: of a light backbone, first and last; a cell of level k has about 2**k pixels, and
            those above the trunk's last are made by strided blocks. None: 3 to 8, the grids of
            SSD300.
        extra_channels: of a light backbone's strided blocks; the last number goes for all that
            follow. None: 512, then 256.
        lite: heads and strided blocks of a light backbone are depthwise separable, as in SSDLite.
        scales: sides of the default boxes as parts of the image's sides, one for each level and
            one more; none: torchvision's, for a light backbone 0.15 to 0.9, evenly spaced.
        aspect_ratios: of each level, beside 1, each of them also the other way round; none:
            torchvision's, for a light backbone 2 and 3.
        steps: from box to box at each level, pixels; none: torchvision's for ``vgg16`` at 300 x
            300, otherwise as many boxes as the map has cells.
        frozen_stages: stages of the trunk that are not trained: 1 is the stem, 2 the stem and C2.
        norm: of the trunk's batch normalisations, see :func:`limbeck.models.norms.convert_norms`;
            ``vgg16`` has none. A trunk that is trained from scratch needs ``trained``.
        reduced_tail: of ``mobilenet_v3_large``, half the channels in its last stage; none: as the
            weights say, otherwise true, as torchvision's SSDLite without weights of ImageNet.
        mean: of the input channels, RGB in [0, 1]; none: as the weights say, otherwise
            torchvision's for this backbone. Has to be given with a file of a VGG16 classifier,
            which does not say it.
        std: likewise.
        score_threshold: detections below it are dropped; none: torchvision's, 0.01 or SSDLite's
            0.001.
        nms_threshold: IoU above which the lower of two detections of a class is dropped; none:
            likewise 0.45 or 0.55.
        detections_per_image: at most; none: likewise 200 or 300.
        topk_candidates: detections of each class that enter NMS, at most; none: likewise 400 or
            300.

    Raises:
        ValueError: An argument does not suit the backbone or the weights; it is named.
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
        opened, given, arguments = settled(SSD, locals())
        boxes = default_boxes(given.count, given.scales, given.aspect_ratios, given.steps)
        maps = _backbone(backbone, given, extra_channels, norm, frozen_stages)
        height, width = given.image_size
        super().__init__(
            maps,
            boxes,
            (width, height),
            num_classes + 1,
            image_mean=list(given.mean),
            image_std=list(given.std),
            head=_head(
                backbone, given, maps.out_channels, boxes.num_anchors_per_location(), num_classes
            ),
            score_thresh=given.score_threshold,
            nms_thresh=given.nms_threshold,
            detections_per_img=given.detections_per_image,
            topk_candidates=given.topk_candidates,
            _skip_resize=True,
        )
        self.preset = preset_of("torchvision")
        every_level = tuple(range(given.levels[0], given.levels[1] + 1))
        self.complete(arguments, every_level, opened, _BUILDERS.get(name_of(backbone), ""))

    def without_limbeck(self) -> str | None:
        """Python that builds and loads this detector with torchvision alone."""
        return ssd_code(self)


def _backbone(
    backbone: str | BasicBlocks,
    given: Settled,
    channels: Sequence[int] | None,
    norm: Norm,
    frozen_stages: int,
) -> VGG16 | MobileNetV3 | LightBackbone:
    name = name_of(backbone)
    if name == "vgg16":
        return VGG16(given.image_size, frozen_stages)
    if name == "mobilenet_v3_large":
        return MobileNetV3(reduced_tail=given.reduced_tail, norm=norm, frozen_stages=frozen_stages)
    return LightBackbone(
        backbone,
        given.levels,
        given.image_size,
        channels=channels,
        lite=given.lite,
        norm=norm,
        frozen_stages=frozen_stages,
    )


def _head(
    backbone: str | BasicBlocks,
    given: Settled,
    channels: Sequence[int],
    per_cell: list[int],
    num_classes: int,
) -> nn.Module:
    if not given.lite:
        return SSDHead(list(channels), per_cell, num_classes + 1)
    norm = LITE_NORM if name_of(backbone) == "mobilenet_v3_large" else MapNorm
    return SSDLiteHead(list(channels), per_cell, num_classes + 1, norm)
