"""A detector's arguments, all settled, for a configuration of another library.

And how each library runs a detector, as far as no configuration says it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.checkpoints.libraries.stated import MetaArchitecture

_DEPTHS = {"resnet18": 18, "resnet34": 34, "resnet50": 50, "resnet101": 101}
_MOBILENET_V2 = "mobilenet_v2"

# By (the detector's preset, the library that is to run it).
_ROUNDED = "anchors are whole pixels, and their stride is image // grid"
_SIZES = "sides of a resized image are rounded down"
_FILTER = "images are resized with antialiasing"
_NO_FILTER = "images are resized without antialiasing"
_BOUND = "boxes shrink by 16 / 1000 at most"
_NO_BOUND = "boxes may shrink by more than 16 / 1000"
_CLIPPED = "boxes are clipped before NMS"
_CLIPPED_LAST = "boxes are clipped after NMS"
_EMPTY = "boxes that clipping emptied are kept"
_HABITS: dict[tuple[str, str], dict[MetaArchitecture, tuple[str, ...]]] = {
    ("torchvision", "detectron2"): {
        "retinanet": (_ROUNDED, _SIZES, _NO_FILTER, _CLIPPED, _EMPTY),
        "faster_rcnn": (_ROUNDED, _SIZES, _NO_FILTER),
    },
    ("torchvision", "mmdetection"): {
        "retinanet": (_ROUNDED, _SIZES, _NO_BOUND, _EMPTY),
        "faster_rcnn": (_ROUNDED, _SIZES, _NO_BOUND),
    },
    ("detectron2", "mmdetection"): {
        "retinanet": (_FILTER, _NO_BOUND, _CLIPPED_LAST),
        "faster_rcnn": (_FILTER, _NO_BOUND),
    },
    ("mmdetection", "detectron2"): {
        "retinanet": (_NO_FILTER, _BOUND, _CLIPPED),
        "faster_rcnn": (_NO_FILTER, _BOUND),
    },
}


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
    def preset(self) -> str:
        """The library whose habits the detector has."""
        return str(self.of("preset", "torchvision"))

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
        """Of each level, pixels."""
        first, last = self.levels
        octaves = (4.0, 4 * 2 ** (1.0 / 3), 4 * 2 ** (2.0 / 3))
        scales = octaves if self.arch == "retinanet" else (8.0,)
        exact = [[scale * 2**level for scale in scales] for level in range(first, last + 1)]
        if self.preset == "torchvision":
            exact = [[float(int(size)) for size in of_level] for of_level in exact]
        return [[float(size) for size in of_level] for of_level in self.of("anchor_sizes", exact)]

    @property
    def aspect_ratios(self) -> list[float]:
        """Height / width."""
        return [float(ratio) for ratio in self.of("aspect_ratios", (0.5, 1.0, 2.0))]

    @property
    def from_p5(self) -> bool:
        """P6 of RetinaNet is computed from P5; otherwise from C5."""
        default = "P5" if self.preset == "torchvision" else "C5"
        return bool(self.of("p6_from", default) == "P5")

    @property
    def relu_before_p7(self) -> bool:
        """Of RetinaNet."""
        return bool(self.of("relu_before_p7", self.preset != "mmdetection"))

    @property
    def detections(self) -> int:
        """Of an image, at most."""
        many = self.preset == "torchvision" and self.arch == "retinanet"
        return int(self.of("detections_per_image", 300 if many else 100))

    @property
    def aligned(self) -> bool:
        """RoIAlign's half pixel, and samples as many as pixels."""
        return bool(self.of("roi_aligned", self.preset != "torchvision"))

    def colours(self, name: str, default: Sequence[float], *, bgr: bool) -> list[float]:
        """``mean`` or ``std`` for images in [0, 255]."""
        values = [float(f"{255 * value:.7g}") for value in self.of(name, default)]
        return values[::-1] if bgr else values


def comments(detector: DetectorArguments, library: str, unsaid: Sequence[str]) -> str:
    """Lines that begin a configuration for ``library``: what it has no words for."""
    habits = _HABITS.get((detector.preset, library), {}).get(detector.arch, ())
    lines = ["Beside weights that limbeck converted. What cannot be said here:", *habits, *unsaid]
    lines = lines if len(lines) > 1 else ["Beside weights that limbeck converted."]
    return "".join(f"# {line}\n" for line in lines)
