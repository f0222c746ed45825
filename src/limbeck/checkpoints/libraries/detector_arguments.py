"""A detector's arguments for a configuration of another library, and how such a file begins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.checkpoints.libraries.stated import META_ARCHITECTURES, MetaArchitecture
from limbeck.checkpoints.libraries.trunks import DETECTRON2_BACKBONES, MMDETECTION_BACKBONES
from limbeck.names import escaped
from limbeck.presets import (
    PRESETS,
    PresetName,
    differences,
    preset_of,
    retinanet_sizes,
    rpn_sizes,
)
from limbeck.trunks import TRUNKS

_KINDS = {arch: kind for kind, arch in META_ARCHITECTURES.items()}


@dataclass(frozen=True)
class DetectorArguments:
    """A detector of limbeck's, with the usual value of every argument that is not given.

    Attributes:
        arch: The detector.
        arguments: The arguments of its constructor, see :class:`limbeck.models.RetinaNet`. None
            stands for the usual value.
    """

    arch: MetaArchitecture
    arguments: Mapping[str, Any]

    def __post_init__(self) -> None:
        names = {**DETECTRON2_BACKBONES, **MMDETECTION_BACKBONES}
        if self.backbone not in names:
            raise ValueError(
                f"backbone={self.backbone!r}: expected one of {', '.join(names)}; no other library "
                "has it."
            )

    @property
    def backbone(self) -> str:
        """Torchvision's name of the trunk."""
        return str(self.arguments["backbone"]).removeprefix("torchvision:")

    @property
    def channels(self) -> list[int]:
        """The channels of the trunk's C-levels, finest first."""
        return [stage.channels for stage in TRUNKS[self.backbone].layout.stages]

    def of(self, name: str, default: Any) -> Any:
        """The argument, or ``default`` where there is none."""
        value = self.arguments.get(name)
        return default if value is None else value

    @property
    def preset(self) -> Any:
        """The numerics that the detector has, of its kind's presets."""
        presets = PRESETS[_KINDS[self.arch]]
        return preset_of(self.of("preset", next(iter(presets))), presets)

    @property
    def levels(self) -> tuple[int, int]:
        """The first and the last level of the pyramid."""
        first, last = self.of("levels", (2, 6) if self.arch == "faster_rcnn" else (3, 7))
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
        usual = (1.0,) if self.arch == "gfl" else (0.5, 1.0, 2.0)
        return [float(ratio) for ratio in self.of("aspect_ratios", usual)]

    @property
    def from_p5(self) -> bool:
        """Whether P6 of RetinaNet or GFL is computed from P5. Otherwise it is computed from C5."""
        return bool(self.of("p6_from", self.preset.p6_from) == "P5")

    @property
    def relu_before_p7(self) -> bool:
        """Whether RetinaNet or GFL has a ReLU between P6 and P7."""
        return bool(self.of("relu_before_p7", self.preset.relu_before_p7))

    @property
    def detections(self) -> int:
        """How many detections an image has at most."""
        return int(self.of("detections_per_image", self.preset.detections_per_image))

    @property
    def aligned(self) -> bool:
        """Whether RoIAlign's half pixel is corrected, with as many samples as pixels."""
        return bool(self.of("roi_aligned", self.preset.roi_aligned))

    def colours(self, name: str, default: Sequence[float], *, bgr: bool) -> list[float]:
        """A mean or a standard deviation for images in [0, 255].

        Args:
            name: The name of the argument, ``mean`` or ``std``.
            default: The usual value, red first, for images in [0, 1].
            bgr: Whether the images are BGR.

        Returns:
            The three numbers in the order of the images' channels.
        """
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
    lines = ["Beside weights that limbeck converted. What cannot be said here:"]
    lines += [*differences(detector.preset, PRESETS[_KINDS[detector.arch]][library]), *unsaid]
    last_norm = detector.of("last_norm", None)
    lines += [f"the last block of each stage has the norm {last_norm!r}"] if last_norm else []
    lines = lines if len(lines) > 1 else ["Beside weights that limbeck converted."]
    return "".join(f"# {escaped(line)}\n" for line in lines)
