"""What torchvision, detectron2 and mmdetection do differently in one and the same detector.

The weights of any of the three run in these networks, and give that library's outputs and losses,
only with that library's numerics. Read from detectron2 at commit 02b5c4e, mmdetection 2.20 and 3.3
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

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

PresetName = Literal["torchvision", "detectron2", "mmdetection"]
Sizes = tuple[tuple[float, ...], ...]

_TINY = 2.0**-126  # the smallest normal float32: torch.finfo(torch.float32).tiny


def _outputs(said: Mapping[Any, str] | None = None) -> Mapping[str, Any]:
    """Metadata of a field that acts on a detector's outputs, and not on its losses alone.

    ``said`` is a sentence for each value, for configurations of libraries that have no words for
    it; a field without sentences is an argument of the detector, which they have words for.
    """
    return {"said": said or {}}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The numerics of one library in any detector, see the first table above.

    Attributes:
        rounded_anchors: Whether base anchors are rounded, and the stride is ``image // grid``.
        size_rounding: How the sides of a resized image are brought to whole pixels.
        antialias: Whether a filter against aliasing is used while an image is made smaller.
        bounded_shrinking: Whether dw and dh are clamped from below as they are from above.
        own_box_first: Whether a box's best anchor goes to that box, whatever other box fits that
            anchor better.
        ignore_padding: Whether anchors outside an image's own padded area are ignored by the
            losses. Otherwise they are negatives.
    """

    rounded_anchors: bool = field(
        metadata=_outputs(
            {
                True: "anchors are whole pixels, and their stride is image // grid",
                False: "anchors are as computed, and their stride is 2**level",
            }
        )
    )
    size_rounding: Literal["down", "nearest"] = field(
        metadata=_outputs(
            {
                "down": "sides of a resized image are rounded down",
                "nearest": "sides of a resized image are rounded to the nearest pixel",
            }
        )
    )
    antialias: bool = field(
        metadata=_outputs(
            {
                True: "images are resized with antialiasing",
                False: "images are resized without antialiasing",
            }
        )
    )
    bounded_shrinking: bool = field(
        metadata=_outputs(
            {
                True: "boxes shrink by 16 / 1000 at most",
                False: "boxes may shrink by more than 16 / 1000",
            }
        )
    )
    own_box_first: bool
    ignore_padding: bool


@dataclass(frozen=True, kw_only=True)
class RetinaNetPreset(Preset):
    """The numerics of one library in RetinaNet, see the second table above.

    Attributes:
        p6_from: The map that P6 is computed from.
        relu_before_p7: Whether there is a ReLU between P6 and P7.
        unused_column: Whether column 0 of the classes is never used.
        loss_normaliser: What the losses are divided by.
        clip_before_nms: Whether boxes are clipped to the image before NMS. Otherwise they are
            clipped after it.
        drop_empty: Whether boxes that clipping emptied are dropped.
        detections_per_image: How many detections an image has at most, usually.
    """

    p6_from: Literal["P5", "C5"]
    relu_before_p7: bool = field(metadata=_outputs())
    unused_column: bool
    loss_normaliser: Literal["image", "running_mean", "batch"]
    clip_before_nms: bool = field(
        metadata=_outputs(
            {True: "boxes are clipped before NMS", False: "boxes are clipped after NMS"}
        )
    )
    drop_empty: bool = field(
        metadata=_outputs(
            {
                True: "boxes that clipping emptied are dropped",
                False: "boxes that clipping emptied are kept",
            }
        )
    )
    detections_per_image: int


@dataclass(frozen=True, kw_only=True)
class FasterRCNNPreset(Preset):
    """The numerics of one library in Faster R-CNN, see the third table above.

    Attributes:
        roi_aligned: Whether RoIAlign's half pixel is corrected, with as many samples as a bin has
            pixels. Otherwise it is not, with 2 x 2 samples a bin.
        box_loss: The loss of boxes in the RPN and in the box head.
        rpn_normaliser: What the RPN's losses are divided by: the anchors that were sampled, or the
            number that should have been.
        rpn_proposals: How many proposals the RPN gives in training, after NMS.
        rpn_min_size: The least side of a proposal in pixels. It is never 0: an empty box would
            pass, and has no IoU.
        detections_per_image: How many detections an image has at most, usually.
    """

    roi_aligned: bool = field(metadata=_outputs())
    box_loss: Literal["smooth_l1", "l1"]
    rpn_normaliser: Literal["sampled", "quota"]
    rpn_proposals: int
    rpn_min_size: float
    detections_per_image: int = 100


OF_EVERY_DETECTOR: dict[PresetName, Preset] = {
    "torchvision": Preset(
        rounded_anchors=True,
        size_rounding="down",
        antialias=False,
        bounded_shrinking=False,
        own_box_first=False,
        ignore_padding=False,
    ),
    "detectron2": Preset(
        rounded_anchors=False,
        size_rounding="nearest",
        antialias=True,
        bounded_shrinking=False,
        own_box_first=False,
        ignore_padding=False,
    ),
    "mmdetection": Preset(
        rounded_anchors=False,
        size_rounding="nearest",
        antialias=False,
        bounded_shrinking=True,
        own_box_first=True,
        ignore_padding=True,
    ),
}
RETINANET: dict[PresetName, RetinaNetPreset] = {
    "torchvision": RetinaNetPreset(
        **vars(OF_EVERY_DETECTOR["torchvision"]),
        p6_from="P5",
        relu_before_p7=True,
        unused_column=True,
        loss_normaliser="image",
        clip_before_nms=True,
        drop_empty=False,
        detections_per_image=300,
    ),
    "detectron2": RetinaNetPreset(
        **vars(OF_EVERY_DETECTOR["detectron2"]),
        p6_from="C5",
        relu_before_p7=True,
        unused_column=False,
        loss_normaliser="running_mean",
        clip_before_nms=False,
        drop_empty=True,
        detections_per_image=100,
    ),
    "mmdetection": RetinaNetPreset(
        **vars(OF_EVERY_DETECTOR["mmdetection"]),
        p6_from="C5",
        relu_before_p7=False,
        unused_column=False,
        loss_normaliser="batch",
        clip_before_nms=True,
        drop_empty=True,
        detections_per_image=100,
    ),
}
# GFL is mmdetection's alone, and is run as its RetinaNet.
GFL: dict[PresetName, RetinaNetPreset] = {
    "mmdetection": replace(RETINANET["mmdetection"], p6_from="P5")
}
FASTER_RCNN: dict[PresetName, FasterRCNNPreset] = {
    "torchvision": FasterRCNNPreset(
        **vars(OF_EVERY_DETECTOR["torchvision"]),
        roi_aligned=False,
        box_loss="smooth_l1",
        rpn_normaliser="sampled",
        rpn_proposals=2000,
        rpn_min_size=1e-3,
    ),
    "detectron2": FasterRCNNPreset(
        **vars(OF_EVERY_DETECTOR["detectron2"]),
        roi_aligned=True,
        box_loss="l1",
        rpn_normaliser="quota",
        rpn_proposals=1000,
        rpn_min_size=_TINY,
    ),
    "mmdetection": FasterRCNNPreset(
        **vars(OF_EVERY_DETECTOR["mmdetection"]),
        roi_aligned=True,
        box_loss="l1",
        rpn_normaliser="sampled",
        rpn_proposals=1000,
        rpn_min_size=_TINY,
    ),
}
# By the kind of the detectors on a pyramid, which other libraries have, too.
PRESETS: Mapping[str, Mapping[PresetName, RetinaNetPreset | FasterRCNNPreset]] = {
    "RetinaNet": RETINANET,
    "GFL": GFL,
    "FasterRCNN": FASTER_RCNN,
}


def preset_of(name: str, presets: Mapping[Any, Preset]) -> Preset:
    """The preset of a name, out of those that a detector has.

    Args:
        name: The name of the preset.
        presets: The presets of the detector by their names.

    Returns:
        The preset.

    Raises:
        ValueError: There is no preset of that name.
    """
    if name not in presets:
        other = " FasterRCNNC4 alone has that one." if name == "fgfi" else ""
        raise ValueError(f"preset={name!r}: expected one of {', '.join(presets)}.{other}")
    return presets[name]


def numerics_of_outputs(preset: Preset) -> dict[str, Mapping[Any, str]]:
    """The fields of a preset that act on a detector's outputs, and not on its losses alone.

    Args:
        preset: A preset of the detector.

    Returns:
        For each field its sentences by value; none where the detector has an argument of that name.
    """
    return {each.name: each.metadata["said"] for each in fields(preset) if "said" in each.metadata}


def differences(ours: Preset, theirs: Preset) -> list[str]:
    """What a detector computes otherwise than another library's, beside its arguments.

    Args:
        ours: The preset that the detector has.
        theirs: The other library's preset of the same detector.

    Returns:
        A sentence for each difference, which says what ``ours`` does.
    """
    return [
        said[getattr(ours, name)]
        for name, said in numerics_of_outputs(ours).items()
        if said and getattr(ours, name) != getattr(theirs, name)
    ]


def retinanet_sizes(levels: Iterable[int], *, rounded: bool = True) -> Sizes:
    """The sizes of RetinaNet's anchors: three an octave, 32 to 50.8 pixels at level 3.

    Args:
        levels: The levels of the pyramid. Level k has a stride of 2**k pixels.
        rounded: Whether the sizes are rounded down to integers, as torchvision's are.

    Returns:
        The sizes of each level, in pixels.
    """
    octaves = (1.0, 2 ** (1.0 / 3), 2 ** (2.0 / 3))
    exact = [[4 * 2**level * octave for octave in octaves] for level in levels]
    return tuple(tuple(int(s) if rounded else s for s in of_level) for of_level in exact)


def rpn_sizes(levels: Iterable[int]) -> Sizes:
    """The sizes of Faster R-CNN's anchors: one for each level, 32 pixels at level 2."""
    return tuple((8 * 2**level,) for level in levels)
