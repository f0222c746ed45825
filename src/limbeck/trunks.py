"""The trunks that detectors stand on: where each has its levels, and what its parts are called.

One table for all: models build a trunk from it, and checkpoints tell by it whose tensors they hold.
A trunk is a classifier of torchvision's without its head. The C-level k is its last map with a
stride of 2**k pixels.

====================  =========================================================================
``TRUNKS``            trunks that can stand under a feature pyramid, or under an SSD's further
                      maps. In MobileNetV2 a C-level is the *last* block of its stride, as in HEAD
                      and mmdetection; torchvision's own extractor takes the first
``VGGS``              chains of convolutions, for detectors on the single map C4. Each convolution
                      is a stage, with its ReLU and the pooling before it, so that any number of
                      them can be frozen
====================  =========================================================================
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Stage:
    """A run of a trunk's children.

    Attributes:
        level: The k of the C-level that the last of them gives.
        channels: The channels of that map.
        modules: The names of the children, in order.
        output: The name of a layer inside whose weight has as many rows as the map has channels,
            by which a narrower trunk is measured. Empty: there is none.
    """

    level: int
    channels: int
    modules: tuple[str, ...]
    output: str = ""


@dataclass(frozen=True)
class Layout:
    """The parts of a trunk.

    Attributes:
        stem: The names of the children before the first stage.
        stages: The stages, finest first.
        prefix: What the names of the trunk's tensors begin with in its classifier.
        head: What the names of that classifier's own tensors begin with.
    """

    stem: tuple[str, ...]
    stages: tuple[Stage, ...]
    prefix: str = ""
    head: str = "fc."

    @property
    def top(self) -> int:
        """The coarsest C-level."""
        return self.stages[-1].level


@dataclass(frozen=True)
class Trunk:
    """A trunk of torchvision's.

    Attributes:
        layout: The parts of the trunk.
        recognises: Whether tensors of these shapes are this trunk's, by their names in it. The
            last stages may be missing.
        config: The channels of a VGG's convolutions, with ``M`` for a pooling, as
            ``torchvision.models.vgg.make_layers`` takes them. Empty for other trunks.
    """

    layout: Layout
    recognises: Callable[[Shapes], bool]
    config: tuple[int | str, ...] = ()


def residual(widths: Sequence[int], first_level: int, outputs: Sequence[str] = ()) -> Layout:
    """The layout of a residual network with torchvision's names.

    Args:
        widths: The channels of each stage's output.
        first_level: The C-level that the first stage gives.
        outputs: The names of the stages' output layers inside them. Empty: there are none.

    Returns:
        The layout.
    """
    named = outputs or [""] * len(widths)
    stages = (
        Stage(first_level + k, width, (f"layer{k + 1}",), output)
        for k, (width, output) in enumerate(zip(widths, named, strict=True))
    )
    return Layout(("conv1", "bn1"), tuple(stages))


def residual_blocks(shapes: Shapes) -> tuple[tuple[int, ...], bool]:
    """How many blocks each of the four stages of a residual network has, and if of bottlenecks."""
    blocks = {match[0] for name in shapes if (match := re.match(r"layer\d+\.\d+\.", name))}
    depths = (sum(block.startswith(f"layer{k}.") for block in blocks) for k in range(1, 5))
    return tuple(depths), "layer1.0.conv3.weight" in shapes


def _resnet(*depths: int, bottlenecks: bool) -> Trunk:
    """A ResNet; ``depths`` are the blocks of each stage."""
    width, last = (256, "conv3") if bottlenecks else (64, "conv2")
    outputs = [f"layer{k}.0.{last}" for k in range(1, 5)]

    def recognises(shapes: Shapes) -> bool:
        found, of_bottlenecks = residual_blocks(shapes)
        there = tuple(filter(None, found))  # a pyramid may do without the last ones
        return of_bottlenecks is bottlenecks and there != () and depths[: len(there)] == there

    return Trunk(residual([width * 2**k for k in range(4)], 2, outputs), recognises)


def vgg(*config: int | str) -> Trunk:
    """A VGG; the last pooling, of stride 32, is in no stage.

    Args:
        *config: The channels of the convolutions, with ``M`` for a pooling.

    Returns:
        The trunk.
    """
    stages: list[Stage] = []
    level = place = 0
    pooling: tuple[str, ...] = ()
    for channels in config:
        if isinstance(channels, str):
            level, pooling, place = level + 1, (str(place),), place + 1
        else:
            modules = (*pooling, str(place), str(place + 1))
            stages.append(Stage(level, channels, modules, str(place)))
            pooling, place = (), place + 2
    convolutions = {f"{stage.output}.weight" for stage in stages}

    def recognises(shapes: Shapes) -> bool:
        return {name for name in shapes if re.fullmatch(r"\d+\.weight", name)} == convolutions

    stem, *rest = stages
    layout = Layout(stem.modules, tuple(rest), prefix="features.", head="classifier.")
    return Trunk(layout, recognises, config)


_MOBILENET_V2 = Layout(
    stem=("0", "1"),
    stages=(
        Stage(2, 24, ("2", "3"), "3.conv.2"),
        Stage(3, 32, ("4", "5", "6"), "6.conv.2"),
        Stage(4, 96, ("7", "8", "9", "10", "11", "12", "13"), "13.conv.2"),
        Stage(5, 1280, ("14", "15", "16", "17", "18"), "18.0"),
    ),
    prefix="features.",
    head="classifier.",
)

TRUNKS: dict[str, Trunk] = {
    "resnet18": _resnet(2, 2, 2, 2, bottlenecks=False),
    "resnet34": _resnet(3, 4, 6, 3, bottlenecks=False),
    "resnet50": _resnet(3, 4, 6, 3, bottlenecks=True),
    "resnet101": _resnet(3, 4, 23, 3, bottlenecks=True),
    "resnet152": _resnet(3, 8, 36, 3, bottlenecks=True),
    "mobilenet_v2": Trunk(_MOBILENET_V2, lambda shapes: "18.0.weight" in shapes),
}
# Columns A and D of table 1 of Simonyan and Zisserman (arXiv 1409.1556).
VGGS: dict[str, Trunk] = {
    "vgg11": vgg(64, "M", 128, "M", *(256,) * 2, "M", *(512,) * 2, "M", *(512,) * 2, "M"),
    "vgg16": vgg(
        *(64,) * 2, "M", *(128,) * 2, "M", *(256,) * 3, "M", *(512,) * 3, "M", *(512,) * 3, "M"
    ),
}
