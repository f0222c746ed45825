"""Faster R-CNN with FPN (Ren et al., arXiv 1506.01497; Lin et al., arXiv 1612.03144).

torchvision's, with its parts as arguments.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torchvision.models import detection
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from limbeck.models.detection.detector import Detector, pyramid
from limbeck.models.detection.parts.anchors import anchor_generator
from limbeck.models.detection.parts.heads import BoxPredictor, RPNHead
from limbeck.models.detection.parts.roi_align import ROI_SIZE, RoIAlign
from limbeck.models.detection.parts.roi_heads import RoIHeads
from limbeck.models.detection.parts.rpn import RegionProposalNetwork
from limbeck.models.detection.parts.transform import ReferenceTransform
from limbeck.models.detection.parts.trunks import Activation, Backbone, layout_of
from limbeck.models.detection.pyramid.plain import faster_rcnn_code
from limbeck.models.detection.settling import settle
from limbeck.models.norms import Norm
from limbeck.models.resnet import BasicBlocks
from limbeck.presets import PRESETS, PresetName, rpn_sizes

_EXTRA = "a Faster R-CNN has one extra level (torchvision's LastLevelMaxPool)"


class FasterRCNN(Detector, detection.FasterRCNN):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ``FasterRCNN`` over a light or heavy backbone; state dicts interchange.

    In training mode it takes images as they come (geometry belongs to the data pipeline) and gives
    a dict of losses; in evaluation mode it resizes, and gives a dict of ``boxes`` (xyxy, pixels),
    ``scores`` and ``labels`` for each image. Images are a list of RGB floats in [0, 1], (3, H, W).

    Args:
        backbone: ``resnet18``, ``resnet34``, ``resnet50``, ``resnet101``, ``mobilenet_v2``, or the
            shape of a network of basic blocks.
        num_classes: foreground classes; labels count from 1, and 0 is the background.
        preset: the library whose outputs and losses this network gives with its weights, see
            :mod:`limbeck.presets`; none: that of the weights, otherwise
            torchvision.
        weights: what :func:`limbeck.models.load_weights` takes; none: initialised afresh.
        levels: first and last level of the pyramid; level k has a stride of 2**k pixels. It ends
            at the trunk's last level or below, or one above (P6, which only the RPN sees).
        fpn_channels: of the pyramid.
        box_head_channels: of the two fully connected layers on every region.
        anchor_sizes: of each level, pixels; none: 8 times the stride.
        aspect_ratios: height / width of the anchors.
        frozen_stages: stages of the trunk that are not trained: 1 is the stem, 2 the stem and C2.
        norm: of the trunk's batch normalisations, see :func:`limbeck.models.norms.convert_norms`.
            A trunk that is trained from scratch needs ``trained``.
        stride_in_1x1: bottlenecks as in detectron2's weights of MSRA, see :class:`Backbone`; none:
            as the weights say, otherwise not.
        activation: of MobileNetV2, ``leaky_relu`` as in HEAD; none: as the weights say, otherwise
            its own ReLU6.
        roi_aligned: RoIAlign with its half pixel corrected and as many samples as pixels; none: as
            the weights say, otherwise as the preset.
        min_size: shorter side of images in evaluation mode, pixels.
        max_size: bound of the longer side in evaluation mode, pixels.
        mean: of the input channels, RGB in [0, 1]; none: as the weights say, otherwise ImageNet's.
        std: likewise.
        score_threshold: detections below it are dropped.
        nms_threshold: IoU above which the lower of two detections of a class is dropped.
        detections_per_image: at most.

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
        opened, settled = settle(FasterRCNN, locals(), presets=PRESETS)
        numerics = PRESETS[settled["preset"]]
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
        colours = list(settled["mean"]), list(settled["std"])
        super().__init__(
            fpn,
            min_size=min_size,
            max_size=max_size,
            image_mean=colours[0],
            image_std=colours[1],
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
            self.transform = ReferenceTransform(numerics, min_size, max_size, *colours)
        self.complete(settled, pyramid_levels, opened, "fasterrcnn_{}_fpn")

    def without_limbeck(self) -> str | None:
        """Python that builds and loads this detector with torchvision alone."""
        return faster_rcnn_code(self)
