"""How one and the same weights are run: what the weights say of it, and what the user says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from limbeck.models.detection.parts.trunks import Activation
from limbeck.models.weights import Source, open_weights, settled
from limbeck.presets import PRESETS, Pooling, Preset, preset_of

P6From = Literal["P5", "C5"]


@dataclass(frozen=True)
class Numerics:
    """Arguments of a detector that its weights may decide.

    Attributes:
        preset: the library whose habits the detector has.
        habits: of that preset.
        stride_in_1x1: of the trunk's bottlenecks.
        mean: of the input channels.
        std: likewise.
        anchor_sizes: of each level, pixels; none: the preset's.
        p6_from: what RetinaNet's P6 is computed from.
        relu_before_p7: of RetinaNet.
        roi_aligned: of Faster R-CNN: RoIAlign as in the presets detectron2 and mmdetection.
        activation: of MobileNetV2; none: its own.
        pooling: of regions of a Faster R-CNN on one map; none: RoIAlign.
        class_agnostic: of a Faster R-CNN on one map: all classes share a region's box.
    """

    preset: str
    habits: Preset
    stride_in_1x1: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    anchor_sizes: Any
    p6_from: P6From
    relu_before_p7: bool
    roi_aligned: bool
    activation: Activation | None
    pooling: Pooling | None
    class_agnostic: bool


def settle(
    arguments: Mapping[str, Any],
    weights: Source,
    presets: Mapping[Any, Preset] = PRESETS,
) -> tuple[Source, Numerics, dict[str, Any]]:
    """The weights, opened, and the arguments that agree with them.

    Args:
        arguments: of a detector's constructor, none where the weights or the preset decide.
        weights: what the constructor was given.
        presets: that this detector has, by name.

    Returns:
        The opened weights, what was settled, and all arguments.

    Raises:
        ValueError: The weights say otherwise than an argument.
    """
    opened = open_weights(weights)

    def agreed(name: str, default: Any) -> Any:
        return settled(opened, name, arguments.get(name), default)

    preset = agreed("preset", "torchvision")
    habits = preset_of(preset, presets)
    numerics = Numerics(
        preset,
        habits,
        agreed("stride_in_1x1", False),
        agreed("mean", IMAGENET_DEFAULT_MEAN),
        agreed("std", IMAGENET_DEFAULT_STD),
        agreed("anchor_sizes", None),
        agreed("p6_from", habits.p6_from),
        agreed("relu_before_p7", habits.relu_before_p7),
        agreed("roi_aligned", habits.roi_aligned),
        agreed("activation", None),
        agreed("pooling", habits.pooling),
        agreed("class_agnostic", False),
    )
    found = {name: value for name, value in vars(numerics).items() if name in arguments}
    return opened, numerics, dict(arguments) | found
