"""What a library's own configuration says of a checkpoint, and the state dict does not.

mmdetection keeps its configuration, Python text, in the checkpoint; Detectron2 writes
``config.yaml`` beside it, limbeck a file of the checkpoint's own name. They are read as data:
nothing in them is run, and what cannot be read as a literal counts as not said.
"""

import reprlib
from dataclasses import dataclass
from typing import Any, Literal

from limbeck.checkpoints.libraries.nested import Triple

MetaArchitecture = Literal["retinanet", "faster_rcnn"]
NO_BOTTLENECKS = (18, 34)  # depths of ResNets


@dataclass(frozen=True)
class Stated:
    """What a configuration says; None where it says nothing.

    Attributes:
        meta_arch: the detector, where limbeck has it.
        stride_in_1x1: of the trunk's bottlenecks; mmdetection's style ``caffe``.
        bgr: images are given in the order blue, green, red.
        mean: of the input channels, red first, for images in [0, 1].
        std: likewise.
        num_classes: foreground classes.
        classes: their names.
        anchor_sizes: of each level, pixels.
        aspect_ratios: height / width, the same on all levels.
        p6_from: what RetinaNet's P6 is computed from.
        relu_before_p7: of RetinaNet.
        min_size: shorter side of test images, pixels.
        max_size: bound of the longer side, pixels.
        score_threshold: detections below it are dropped.
        nms_threshold: IoU of the last NMS.
        detections_per_image: at most.
        frozen_stages: of the trunk in training: 1 is the stem, 2 the stem and C2.
        activation: of MobileNetV2, where it is not its own ReLU6.
        roi_aligned: of Faster R-CNN: RoIAlign's half pixel, with as many samples as pixels;
            otherwise without it and with 2 x 2 samples a bin, as in torchvision.
    """

    meta_arch: MetaArchitecture | None = None
    stride_in_1x1: bool | None = None
    bgr: bool | None = None
    mean: Triple | None = None
    std: Triple | None = None
    num_classes: int | None = None
    classes: tuple[str, ...] | None = None
    anchor_sizes: tuple[tuple[float, ...], ...] | None = None
    aspect_ratios: tuple[float, ...] | None = None
    p6_from: Literal["P5", "C5"] | None = None
    relu_before_p7: bool | None = None
    min_size: int | None = None
    max_size: int | None = None
    score_threshold: float | None = None
    nms_threshold: float | None = None
    detections_per_image: int | None = None
    frozen_stages: int | None = None
    activation: Literal["leaky_relu"] | None = None
    roi_aligned: bool | None = None


def roi_aligned(aligned: bool, samples: int, said: Any) -> bool:
    """Of the two kinds of RoIAlign that limbeck has."""
    if (aligned, samples) not in ((True, 0), (False, 2)):
        raise ValueError(
            f"RoIAlign is {reprlib.repr(said)} with a sampling ratio of {samples}: limbeck's is "
            "aligned with 0 (Detectron2's, mmdetection's), or not aligned with 2 (torchvision's)."
        )
    return aligned
