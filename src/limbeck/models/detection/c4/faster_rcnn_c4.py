"""Faster R-CNN on one map (Ren et al., arXiv 1506.01497), without a feature pyramid.

torchvision's, with its parts as arguments: VGG with its fully connected layers, as in Fine-grained
Feature Imitation (Wang et al., CVPR 2019), or a ResNet's C4 with its last stage as the box head
(He et al., arXiv 1512.03385).
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models import detection

from limbeck.checkpoints.tensors import Tensors
from limbeck.models.build import Build
from limbeck.models.detection.c4.anchors import IntegerAnchorGenerator
from limbeck.models.detection.c4.original import (
    FGFIRegionProposalNetwork,
    FGFIRoIHeads,
    FGFITransform,
    PairRPNHead,
    initialise,
)
from limbeck.models.detection.c4.pooling import SingleMapPooling
from limbeck.models.detection.c4.presets import C4_PRESETS, ONE_MAP, C4PresetName
from limbeck.models.detection.c4.trunks import (
    LEVEL,
    C4Trunk,
    c4_layout_of,
    trunk_and_head,
    trunk_and_head_of_classifier,
)
from limbeck.models.detection.detector import Detector
from limbeck.models.detection.parts.anchors import anchor_generator
from limbeck.models.detection.parts.heads import BoxPredictor, ClassAgnosticBoxPredictor, RPNHead
from limbeck.models.detection.parts.roi_align import RoIAlign
from limbeck.models.detection.parts.roi_heads import RoIHeads
from limbeck.models.detection.parts.rpn import RegionProposalNetwork
from limbeck.models.detection.parts.transform import ReferenceTransform
from limbeck.models.detection.parts.trunks import Activation
from limbeck.models.detection.settling import settle
from limbeck.models.norms import Norm
from limbeck.models.resnet import BasicBlocks
from limbeck.presets import Pooling

log = logging.getLogger(__name__)

_SIZES = (128.0, 256.0, 512.0)


class FasterRCNNC4(Detector, detection.FasterRCNN):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ``FasterRCNN`` on the map of stride 16.

    It takes and gives what :class:`limbeck.models.FasterRCNN` does. With the preset ``fgfi`` too
    boxes are exclusive: the original's, with 1 added to x2 and y2.

    Args:
        backbone: ``vgg11``, ``vgg16``, ``resnet18``, ``resnet34``, ``resnet50``, ``resnet101``,
            ``mobilenet_v2``, or the shape of a network of basic blocks with a stage of stride 16.
        num_classes: foreground classes; labels count from 1, and 0 is the background.
        preset: whose outputs and losses this network gives, see
            :mod:`limbeck.models.detection.c4.presets`; none: that of the weights, otherwise
            torchvision.
        weights: what :func:`limbeck.models.load_weights` takes; those of a classifier fill the
            family's own box head, too. None: initialised afresh.
        box_head_channels: of two fully connected layers on every region; none: the family's own
            box head, a VGG's classifier less its last layer, or the stages after C4 and their mean.
        anchor_sizes: pixels, in one tuple: ``((128, 256, 512),)``, which is also what none is.
        aspect_ratios: height / width of the anchors.
        frozen_stages: stages of the trunk that are not trained: 1 is the stem, 2 the stem and C2. A
            VGG's are its convolutions: 4 of VGG16 (conv1_1 to conv2_2) and 3 of VGG11 (conv1 to
            conv3_1) in Fine-grained Feature Imitation.
        norm: of the batch normalisations of trunk and box head, see
            :func:`limbeck.models.norms.convert_norms`; a VGG has none.
        stride_in_1x1: bottlenecks as in detectron2's weights of MSRA; none: as the weights say,
            otherwise not.
        activation: of MobileNetV2, ``leaky_relu`` as in HEAD; none: as the weights say, otherwise
            its own ReLU6.
        roi_aligned: RoIAlign with its half pixel corrected and as many samples as pixels; none: as
            the weights say, otherwise as the preset.
        pooling: of regions, in place of RoIAlign, see
            :mod:`limbeck.models.detection.c4.pooling`; none: as the weights say, otherwise
            as the preset: ``align`` of ``fgfi``, and RoIAlign.
        class_agnostic: all classes share a region's box; none: as the weights say, otherwise not.
        min_size: shorter side of images in evaluation mode, pixels; none: as the preset.
        max_size: bound of the longer side in evaluation mode, pixels; none: as the preset.
        mean: of the input channels, RGB in [0, 1]; none: as the weights say, otherwise ImageNet's.
        std: likewise.
        score_threshold: detections below it are dropped; none: as the preset.
        nms_threshold: IoU above which the lower of two detections of a class is dropped; none: as
            the preset.
        detections_per_image: at most.

    Raises:
        ValueError: An argument does not suit the backbone or the weights; it is named.
    """

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
        opened, numerics, arguments = settle(locals(), weights, C4_PRESETS)
        build = Build.of("limbeck.models.FasterRCNNC4", arguments)
        original = numerics.preset == "fgfi"
        habits, usual = numerics.habits, ONE_MAP[numerics.preset]
        trunk, box_head, width, size = trunk_and_head(
            backbone,
            box_head_channels,
            norm=norm,
            frozen_stages=frozen_stages,
            stride_in_1x1=numerics.stride_in_1x1,
            activation=numerics.activation,
        )
        sizes = numerics.anchor_sizes or [_SIZES]
        anchors = anchor_generator([LEVEL], sizes, aspect_ratios, rounded=habits.rounded_anchors)
        if original:
            anchors = IntegerAnchorGenerator(sizes[0], aspect_ratios)
        head = (PairRPNHead if original else RPNHead)(
            trunk.out_channels, anchors.num_anchors_per_location()[0]
        )
        predictor = ClassAgnosticBoxPredictor if numerics.class_agnostic else BoxPredictor
        super().__init__(
            trunk,
            min_size=min_size or usual.min_size,
            max_size=max_size or usual.max_size,
            image_mean=list(numerics.mean),
            image_std=list(numerics.std),
            rpn_anchor_generator=anchors,
            box_roi_pool=RoIAlign(
                (LEVEL, LEVEL),
                aligned=numerics.roi_aligned,
                sampling_ratio=0 if numerics.roi_aligned else 2,
                size=size,
            ),
            box_head=box_head,
            box_predictor=predictor(width, num_classes + 1),
            rpn_head=head,
            box_score_thresh=_given(score_threshold, usual.score_threshold),
            box_nms_thresh=_given(nms_threshold, usual.nms_threshold),
            box_detections_per_img=detections_per_image,
            _skip_resize=True,
        )
        self.preset = habits
        self._give_habits(numerics.preset)
        if numerics.pooling is not None:
            self.roi_heads.box_roi_pool = SingleMapPooling(numerics.pooling, 2**LEVEL, size)
        self.complete("", build, (LEVEL,), opened)

    def _give_habits(self, preset: str) -> None:
        """Replace torchvision's parts by those with the preset's habits."""
        original, habits, usual = preset == "fgfi", self.preset, ONE_MAP[preset]
        transform: Any = self.get_submodule("transform")
        if habits.size_rounding == "nearest":
            self.transform = (FGFITransform if original else ReferenceTransform)(
                habits,
                transform.min_size[0],
                transform.max_size,
                transform.image_mean,
                transform.image_std,
            )
            self.transform.size_divisible = 1  # no levels have to fit together
        if original:
            initialise(self.roi_heads.box_predictor)
        network = FGFIRegionProposalNetwork if original else RegionProposalNetwork
        self.rpn = network(self.rpn.anchor_generator, self.rpn.head, habits)
        names = ("training", "testing")
        self.rpn._pre_nms_top_n = dict(zip(names, usual.before_nms, strict=True))
        self.rpn._post_nms_top_n = dict(zip(names, usual.proposals, strict=True))
        self.roi_heads = (FGFIRoIHeads if original else RoIHeads)(self.roi_heads, habits)

    def part_for(self, tensors: Tensors) -> tuple[nn.Module, Tensors]:
        """The whole detector, or trunk and box head where the weights are a classifier's."""
        if any(name.startswith("backbone.") for name in tensors):
            return self, tensors
        layout = c4_layout_of(_backbone(self.build))
        part, own = trunk_and_head_of_classifier(
            layout, self.backbone, self.roi_heads.box_head, tensors
        )
        log.info("The weights are a classifier's: %d of %d tensors.", len(own), len(tensors))
        return part, own

    def without_limbeck(self) -> str | None:
        """None: torchvision alone has neither these box heads nor these habits."""
        return None


def _given(value: float | None, usual: float) -> float:
    return usual if value is None else value


def _backbone(build: Build) -> str | BasicBlocks:
    given = build.init_args["backbone"]
    return given if isinstance(given, str) else BasicBlocks(**given)
