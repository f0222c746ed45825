"""A detector's arguments, all settled, for a configuration of another library.

And how each library runs a detector, as far as no configuration says it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.checkpoints.libraries.stated import MetaArchitecture
from limbeck.presets import (
    PRESETS,
    Preset,
    PresetName,
    detections_of,
    differences,
    preset_of,
    retinanet_sizes,
    rpn_sizes,
)

_DEPTHS = {"resnet18": 18, "resnet34": 34, "resnet50": 50, "resnet101": 101}
_MOBILENET_V2 = "mobilenet_v2"

_KINDS = {"retinanet": "RetinaNet", "faster_rcnn": "FasterRCNN"}


@dataclass(frozen=True)
class DetectorArguments:
    """A detector of limbeck's, every argument settled; see :class:`limbeck.models.RetinaNet`."""

    arch: MetaArchitecture
    arguments: Mapping[str, Any]

    def __post_init__(self) -> None:
        backbone = str(self.arguments["backbone"]).removeprefix("torchvision:")
        if backbone not in (*_DEPTHS, _MOBILENET_V2):
            raise ValueError(
                f"backbone={backbone!r}: expected one of {', '.join(_DEPTHS)}, {_MOBILENET_V2}; "
                "no other library has it."
            )

    def of(self, name: str, default: Any) -> Any:
        """The argument, or ``default`` where there is none."""
        value = self.arguments.get(name)
        return default if value is None else value

    @property
    def preset(self) -> Preset:
        """The numerics that the detector has."""
        return preset_of(self.of("preset", "torchvision"))

    @property
    def depth(self) -> int | None:
        """Of the ResNet; none for MobileNetV2."""
        return _DEPTHS.get(str(self.arguments["backbone"]).removeprefix("torchvision:"))

    @property
    def levels(self) -> tuple[int, int]:
        """First and last of the pyramid."""
        first, last = self.of("levels", (3, 7) if self.arch == "retinanet" else (2, 6))
        return first, last

    @property
    def anchor_sizes(self) -> list[list[float]]:
        """The sizes of each level's anchors, in pixels."""
        first, last = self.levels
        levels = range(first, last + 1)
        rounded = self.preset.rounded_anchors
        usual = (
            retinanet_sizes(levels, rounded=rounded)
            if self.arch == "retinanet"
            else rpn_sizes(levels)
        )
        return [[float(size) for size in of_level] for of_level in self.of("anchor_sizes", usual)]

    @property
    def aspect_ratios(self) -> list[float]:
        """The ratios of the anchors, height / width."""
        return [float(ratio) for ratio in self.of("aspect_ratios", (0.5, 1.0, 2.0))]

    @property
    def from_p5(self) -> bool:
        """Whether P6 of RetinaNet is computed from P5. Otherwise it is computed from C5."""
        return bool(self.of("p6_from", self.preset.p6_from) == "P5")

    @property
    def relu_before_p7(self) -> bool:
        """Whether RetinaNet has a ReLU between P6 and P7."""
        return bool(self.of("relu_before_p7", self.preset.relu_before_p7))

    @property
    def detections(self) -> int:
        """How many detections an image has at most."""
        usual = detections_of(self.preset, _KINDS[self.arch])
        return int(self.of("detections_per_image", usual))

    @property
    def aligned(self) -> bool:
        """Whether RoIAlign's half pixel is corrected, with as many samples as pixels."""
        return bool(self.of("roi_aligned", self.preset.roi_aligned))

    def colours(self, name: str, default: Sequence[float], *, bgr: bool) -> list[float]:
        """``mean`` or ``std`` for images in [0, 255]."""
        values = [float(f"{255 * value:.7g}") for value in self.of(name, default)]
        return values[::-1] if bgr else values


def comments(detector: DetectorArguments, library: PresetName, unsaid: Sequence[str]) -> str:
    """The lines that begin a configuration: what its library has no words for.

    Args:
        detector: The detector that the configuration is written for.
        library: The library that will read the configuration.
        unsaid: What this detector has beside its preset, and the library has no words for.

    Returns:
        The lines, each a comment.
    """
    numerics = differences(detector.preset, PRESETS[library], _KINDS[detector.arch])
    lines = ["Beside weights that limbeck converted. What cannot be said here:", *numerics, *unsaid]
    lines = lines if len(lines) > 1 else ["Beside weights that limbeck converted."]
    return "".join(f"# {line}\n" for line in lines)
