"""What a library's own configuration says of a checkpoint, and the state dict does not.

mmdetection keeps its configuration, Python text, in the checkpoint; Detectron2 writes
``config.yaml`` beside it, limbeck a file of the checkpoint's own name. They are read as data:
nothing in them is run, and what cannot be read as a literal counts as not said.
"""

import reprlib
from dataclasses import dataclass
from typing import Any, Literal

from limbeck.checkpoints.architecture import Kind
from limbeck.checkpoints.libraries.nested import Triple

MetaArchitecture = Literal["retinanet", "gfl", "faster_rcnn"]
# By the kind of limbeck's detector.
META_ARCHITECTURES: dict[Kind, MetaArchitecture] = {
    "RetinaNet": "retinanet",
    "GFL": "gfl",
    "FasterRCNN": "faster_rcnn",
}
NO_BOTTLENECKS = (18, 34)  # depths of ResNets


@dataclass(frozen=True)
class Stated:
    """What a configuration says; None where it says nothing.

    Attributes:
        meta_arch: The detector, where limbeck has it.
        stride_in_1x1: Whether the trunk's bottlenecks are strided in their first 1x1 convolution;
            mmdetection's style ``caffe``.
        bgr: Whether images are given in the order blue, green, red.
        mean: The mean of the input channels, red first, for images in [0, 1].
        std: The standard deviation of the input channels, red first, for images in [0, 1].
        num_classes: The number of foreground classes.
        classes: The names of the foreground classes.
        anchor_sizes: The sizes of the anchors of each level, in pixels.
        aspect_ratios: The ratios height / width of the anchors, the same on all levels.
        p6_from: The map that RetinaNet's P6 is computed from.
        relu_before_p7: Whether RetinaNet has a ReLU between P6 and P7.
        min_size: The shorter side of test images, in pixels.
        max_size: The bound of their longer side, in pixels.
        score_threshold: The score below which detections are dropped.
        nms_threshold: The IoU of the last NMS.
        detections_per_image: How many detections an image has at most.
        frozen_stages: How many stages of the trunk are not trained: 1 is the stem, 2 the stem and
            C2.
        activation: The activation of MobileNetV2, where it is not its own ReLU6.
        roi_aligned: Whether Faster R-CNN's RoIAlign corrects the half pixel, with as many samples
            as pixels. Otherwise it does not, with 2 x 2 samples a bin, as in torchvision.
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
    """Which of the two kinds of RoIAlign that limbeck has a configuration says.

    Args:
        aligned: Whether the half pixel is corrected.
        samples: The sampling ratio, 0 for as many samples as pixels.
        said: What the configuration says, for the message.

    Returns:
        ``aligned``.

    Raises:
        ValueError: It is neither of the two.
    """
    if (aligned, samples) not in ((True, 0), (False, 2)):
        raise ValueError(
            f"RoIAlign is {reprlib.repr(said)} with a sampling ratio of {reprlib.repr(samples)}: "
            "limbeck's is "
            "aligned with 0 (Detectron2's, mmdetection's), or not aligned with 2 (torchvision's)."
        )
    return aligned
