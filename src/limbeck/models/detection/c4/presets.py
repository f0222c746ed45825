"""The numerics of a Faster R-CNN on one map, without a feature pyramid.

Beside what :mod:`limbeck.presets` says of torchvision and detectron2:

==========================  ====================  ====================  ========================
of one map                  torchvision           detectron2            fgfi
==========================  ====================  ====================  ========================
anchors                     sides rounded, on     as computed, on       rounded at 16 pixels, on
                            the cell's corner     the cell's corner     the cell's middle
boxes                       exclusive             exclusive             inclusive, see
                                                                        :mod:`.inclusive_boxes`
size of a resized image     800, at most 1333     800, at most 1333     600, without bound
padding of images           to 32 pixels          none                  none
anchors outside the image   take part             take part             are ignored
scores of an anchor         one, a sigmoid        one, a sigmoid        two, a softmax
proposals in training       2000 of 2000          2000 of 12000         2000 of 12000
proposals in evaluation     1000 of 1000          1000 of 6000          300 of 6000
regions of a training       512, all different    512, all different    256, negatives may repeat
image
loss of regions' boxes      smooth L1, 1/9        L1                    smooth L1, 1
pooling of regions          RoIAlign              RoIAlign              ``align``, see
                                                                        :mod:`.pooling`
detections: score, NMS      0.05, 0.5             0.05, 0.5             0, 0.3
==========================  ====================  ====================  ========================

``fgfi`` is Fine-grained Feature Imitation's Faster R-CNN (Wang et al., CVPR 2019), with the values
of its files ``cfgs/vgg11.yml`` and ``cfgs/vgg16.yml``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator

from limbeck.models.detection.c4.anchors import integer_anchors
from limbeck.models.detection.c4.original import (
    FGFIRegionProposalNetwork,
    FGFIRoIHeads,
    FGFITransform,
    PairRPNHead,
    initialise,
)
from limbeck.models.detection.c4.pooling import Pooling
from limbeck.models.detection.c4.trunks import LEVEL
from limbeck.models.detection.parts.anchors import anchor_generator
from limbeck.models.detection.parts.heads import BoxPredictor, RPNHead
from limbeck.models.detection.parts.roi_heads import RoIHeads
from limbeck.models.detection.parts.rpn import RegionProposalNetwork
from limbeck.models.detection.parts.transform import ReferenceTransform
from limbeck.presets import FASTER_RCNN, FasterRCNNPreset

C4PresetName = Literal["torchvision", "detectron2", "fgfi"]


@dataclass(frozen=True, kw_only=True)
class C4Preset(FasterRCNNPreset):
    """The numerics of a library's Faster R-CNN on one map, and the parts that have them.

    Attributes:
        pooling: How regions are pooled. None: by RoIAlign.
        before_nms: The number of the RPN's best boxes that enter NMS, in training and otherwise.
        proposals: The number of these that remain after NMS, in training and otherwise.
        min_size: The shorter side of images in evaluation mode, in pixels.
        max_size: The bound of their longer side, in pixels.
        score_threshold: The score that a detection has to exceed.
        nms_threshold: The IoU above which the lower of two detections of a class is dropped.
        anchors: What makes the generator, from the sizes in one tuple and the aspect ratios.
        transform: What resizes and batches images. None: torchvision's own, which pads the images
            to multiples of 32 pixels; the others do not pad.
        rpn_head: The class of the RPN's head.
        rpn: The class of the RPN.
        roi_heads: The class of the part that samples, scores and suppresses regions.
        initialise: What gives the last layers their initial values. None: they keep torch's.
    """

    pooling: Pooling | None = None
    before_nms: tuple[int, int]
    proposals: tuple[int, int]
    min_size: int = 800
    max_size: float = 1333
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    anchors: Callable[[Sequence[Sequence[float]], Sequence[float]], AnchorGenerator]
    transform: type[ReferenceTransform] | None
    rpn_head: type[RPNHead] = RPNHead
    rpn: type[RegionProposalNetwork] = RegionProposalNetwork
    roi_heads: type[RoIHeads] = RoIHeads
    initialise: Callable[[BoxPredictor], object] | None = None


C4_PRESETS: dict[C4PresetName, C4Preset] = {
    "torchvision": C4Preset(
        **vars(FASTER_RCNN["torchvision"]),
        before_nms=(2000, 1000),
        proposals=(2000, 1000),
        anchors=partial(anchor_generator, [LEVEL], rounded=True),
        transform=None,
    ),
    "detectron2": C4Preset(
        **vars(FASTER_RCNN["detectron2"]),
        before_nms=(12000, 6000),
        proposals=(2000, 1000),
        anchors=partial(anchor_generator, [LEVEL], rounded=False),
        transform=ReferenceTransform,
    ),
    "fgfi": C4Preset(
        rounded_anchors=False,  # it has its own generator, whose stride is exact
        size_rounding="nearest",
        antialias=False,
        bounded_shrinking=False,
        own_box_first=False,
        ignore_padding=True,
        roi_aligned=False,
        box_loss="smooth_l1",
        rpn_normaliser="sampled",
        rpn_proposals=2000,
        rpn_min_size=torch.finfo(torch.float32).tiny,
        pooling="align",
        before_nms=(12000, 6000),
        proposals=(2000, 300),
        min_size=600,
        max_size=math.inf,
        score_threshold=0.0,
        nms_threshold=0.3,
        anchors=integer_anchors,
        transform=FGFITransform,
        rpn_head=PairRPNHead,
        rpn=FGFIRegionProposalNetwork,
        roi_heads=FGFIRoIHeads,
        initialise=initialise,
    ),
}
