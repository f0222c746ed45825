"""What torchvision, detectron2 and mmdetection do differently in one and the same detector.

The weights of any of the three run in these networks, and give that library's outputs and losses,
only with that library's habits. Read from detectron2 at commit 02b5c4e, mmdetection 2.20 and 3.3
(their COCO base configurations) and torchvision 0.29. Where those two versions of mmdetection
differ, this is 3.3: version 2.20 kept RetinaNet's empty boxes.

==========================  ====================  ====================  ========================
of both detectors           torchvision           detectron2            mmdetection
==========================  ====================  ====================  ========================
anchors                     sides rounded,        as computed, stride   as computed, stride
                            stride image // grid  2**level              2**level
size of a resized image     rounded down          to the nearest        to the nearest
filter of the resizing      bilinear              bilinear, antialias   bilinear
bound of a box's shrinking  none                  none                  16 / 1000
best anchor of a box        goes to the anchor's  goes to the anchor's  goes to that box, the
below the threshold         own best box          own best box          last one if several
anchors on the padding of   are negatives         are negatives         are ignored
smaller images of a batch
==========================  ====================  ====================  ========================

==========================  ====================  ====================  ========================
of RetinaNet                torchvision           detectron2            mmdetection
==========================  ====================  ====================  ========================
P6 is computed from         P5                    C5                    C5
ReLU between P6 and P7      yes                   yes                   no
columns of K classes        K + 1, the first one  K                     K
                            never used
losses are divided by       each image's          running mean of the   the batch's positives,
                            positives, then by    batch's positives     one at least an image
                            the images
boxes are clipped           before NMS            after NMS             before NMS
empty boxes                 are kept              are dropped           are dropped
detections per image        300                   100                   100
==========================  ====================  ====================  ========================

==========================  ====================  ====================  ========================
of Faster R-CNN             torchvision           detectron2            mmdetection
==========================  ====================  ====================  ========================
RoIAlign                    2 x 2 samples a bin,  as many as pixels,    as many as pixels,
                            half a pixel off      aligned               aligned
box losses                  smooth L1, 1/9        L1                    L1
RPN losses are divided by   the sampled anchors   256 an image          the sampled anchors
proposals in training       2000                  1000                  1000
proposals are dropped       below 0.001 pixels    if empty              if empty
==========================  ====================  ====================  ========================

The same in all three: anchor sizes and ratios, thresholds of matching, sampling, NMS and scores,
focal loss, box encoding, P6 of Faster R-CNN, and background as class 0 of its softmax in this
module (detectron2 and mmdetection keep that row last in their files). torchvision also drops final
boxes below 0.01 pixels in Faster R-CNN, and so do the other presets here: no difference on the
reference outputs. Properties of a checkpoint, not of a library, are arguments of the detectors:
``mean``, ``std``, ``stride_in_1x1``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

PresetName = Literal["torchvision", "detectron2", "mmdetection"]
Pooling = Literal["align", "crop", "pool"]


@dataclass(frozen=True)
class Preset:
    """The habits of one library, see the tables above.

    Attributes:
        rounded_anchors: base anchors are rounded, and the stride is ``image // grid``.
        size_rounding: of a resized image's sides.
        antialias: while an image is made smaller.
        bounded_shrinking: dw and dh are clamped from below as they are from above.
        own_box_first: a box's best anchor goes to that box, whatever other box fits it better.
        ignore_padding: anchors outside an image's own padded area are neither positive nor
            negative.
        p6_from: what P6 of RetinaNet is computed from.
        relu_before_p7: of RetinaNet.
        unused_column: RetinaNet's class column 0 is never used.
        loss_normaliser: what divides RetinaNet's losses.
        clip_before_nms: RetinaNet's boxes are clipped to the image before NMS; otherwise after.
        drop_empty: boxes of RetinaNet that clipping emptied are dropped.
        detections_per_image: RetinaNet's default.
        roi_aligned: RoIAlign's half pixel is corrected, and it takes as many samples as pixels;
            otherwise 2 x 2 samples a bin.
        box_loss: of the RPN and of the box head.
        rpn_normaliser: what divides the RPN's losses: the sampled anchors, or how many should be.
        rpn_proposals: of the RPN in training, after NMS.
        rpn_min_size: sides of proposals, pixels. Never 0: an empty box would pass, and has no IoU.
        pooling: of regions of one map, where it is not RoIAlign.
    """

    rounded_anchors: bool
    size_rounding: Literal["down", "nearest"]
    antialias: bool
    bounded_shrinking: bool
    own_box_first: bool
    ignore_padding: bool
    p6_from: Literal["P5", "C5"]
    relu_before_p7: bool
    unused_column: bool
    loss_normaliser: Literal["image", "running_mean", "batch"]
    clip_before_nms: bool
    drop_empty: bool
    detections_per_image: int
    roi_aligned: bool
    box_loss: Literal["smooth_l1", "l1"]
    rpn_normaliser: Literal["sampled", "quota"]
    rpn_proposals: int
    rpn_min_size: float
    pooling: Pooling | None = None


PRESETS: dict[PresetName, Preset] = {
    "torchvision": Preset(
        rounded_anchors=True,
        size_rounding="down",
        antialias=False,
        bounded_shrinking=False,
        own_box_first=False,
        ignore_padding=False,
        p6_from="P5",
        relu_before_p7=True,
        unused_column=True,
        loss_normaliser="image",
        clip_before_nms=True,
        drop_empty=False,
        detections_per_image=300,
        roi_aligned=False,
        box_loss="smooth_l1",
        rpn_normaliser="sampled",
        rpn_proposals=2000,
        rpn_min_size=1e-3,
    ),
    "detectron2": Preset(
        rounded_anchors=False,
        size_rounding="nearest",
        antialias=True,
        bounded_shrinking=False,
        own_box_first=False,
        ignore_padding=False,
        p6_from="C5",
        relu_before_p7=True,
        unused_column=False,
        loss_normaliser="running_mean",
        clip_before_nms=False,
        drop_empty=True,
        detections_per_image=100,
        roi_aligned=True,
        box_loss="l1",
        rpn_normaliser="quota",
        rpn_proposals=1000,
        rpn_min_size=torch.finfo(torch.float32).tiny,
    ),
    "mmdetection": Preset(
        rounded_anchors=False,
        size_rounding="nearest",
        antialias=False,
        bounded_shrinking=True,
        own_box_first=True,
        ignore_padding=True,
        p6_from="C5",
        relu_before_p7=False,
        unused_column=False,
        loss_normaliser="batch",
        clip_before_nms=True,
        drop_empty=True,
        detections_per_image=100,
        roi_aligned=True,
        box_loss="l1",
        rpn_normaliser="sampled",
        rpn_proposals=1000,
        rpn_min_size=torch.finfo(torch.float32).tiny,
    ),
}


def preset_of(name: str, presets: Mapping[Any, Preset] = PRESETS) -> Preset:
    """The preset of that name, out of those that a detector has.

    Raises:
        ValueError: There is none.
    """
    if name not in presets:
        other = " FasterRCNNC4 alone has that one." if name == "fgfi" else ""
        raise ValueError(f"preset={name!r}: expected one of {', '.join(presets)}.{other}")
    return presets[name]
