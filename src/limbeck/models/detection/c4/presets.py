"""The habits of a Faster R-CNN on one map, without a feature pyramid.

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
from dataclasses import dataclass
from typing import Literal

import torch

from limbeck.presets import PRESETS, Preset

C4PresetName = Literal["torchvision", "detectron2", "fgfi"]

_FGFI = Preset(
    rounded_anchors=False,  # but its own, whose stride is exact
    size_rounding="nearest",
    antialias=False,
    bounded_shrinking=False,
    own_box_first=False,
    ignore_padding=True,
    p6_from="C5",
    relu_before_p7=True,
    unused_column=False,
    loss_normaliser="image",
    clip_before_nms=True,
    drop_empty=False,
    detections_per_image=100,
    roi_aligned=False,
    box_loss="smooth_l1",
    rpn_normaliser="sampled",
    rpn_proposals=2000,
    rpn_min_size=torch.finfo(torch.float32).tiny,
    pooling="align",
)
C4_PRESETS: dict[C4PresetName, Preset] = {
    "torchvision": PRESETS["torchvision"],
    "detectron2": PRESETS["detectron2"],
    "fgfi": _FGFI,
}


@dataclass(frozen=True)
class OneMap:
    """What a preset says of detectors on one map alone.

    Attributes:
        before_nms: of the RPN's boxes, how many of the best go into NMS: in training, otherwise.
        proposals: how many remain: in training, otherwise.
        min_size: shorter side of images in evaluation mode, pixels.
        max_size: bound of the longer side, pixels.
        score_threshold: detections need a higher score.
        nms_threshold: of the detections of a class.
    """

    before_nms: tuple[int, int]
    proposals: tuple[int, int]
    min_size: int = 800
    max_size: float = 1333
    score_threshold: float = 0.05
    nms_threshold: float = 0.5


ONE_MAP: dict[str, OneMap] = {
    "torchvision": OneMap((2000, 1000), (2000, 1000)),
    "detectron2": OneMap((12000, 6000), (2000, 1000)),
    "fgfi": OneMap((12000, 6000), (2000, 300), 600, math.inf, 0.0, 0.3),
}
