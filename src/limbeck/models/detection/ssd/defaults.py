"""The usual arguments of an SSD: by its backbone, and by the weights that it begins with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from limbeck.checkpoints import Checkpoint, is_file_source
from limbeck.models.build import LimbeckModel
from limbeck.models.detection.parts.timm_trunks import input_of
from limbeck.models.detection.settling import settle
from limbeck.models.resnet import BasicBlocks
from limbeck.models.weights import Source

_VGG16 = {
    "levels": (3, 8),
    "image_size": (300, 300),
    "scales": (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
    "aspect_ratios": ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    "mean": (0.48235, 0.45882, 0.40784),
    "std": (1 / 255, 1 / 255, 1 / 255),
    "score_threshold": 0.01,
    "nms_threshold": 0.45,
    "detections_per_image": 200,
    "topk_candidates": 400,
}
_MOBILENET_V3 = {
    "levels": (4, 9),
    "image_size": (320, 320),
    "scales": (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0),
    "lite": True,
    "reduced_tail": True,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "score_threshold": 0.001,
    "nms_threshold": 0.55,
    "detections_per_image": 300,
    "topk_candidates": 300,
}
_LIGHT = _VGG16 | {
    "scales": None,  # evenly spaced over the levels
    "aspect_ratios": None,  # 2 and 3 at every level
    "mean": IMAGENET_DEFAULT_MEAN,
    "std": IMAGENET_DEFAULT_STD,
}
_SSD300_STEPS = (8, 16, 32, 64, 100, 300)
_LEAST, _MOST = 0.15, 0.9  # scales of the first and the last level, as torchvision has them
STOCK = {"vgg16": _VGG16, "mobilenet_v3_large": _MOBILENET_V3}
# All other published weights are a trunk's: these are those of whole networks.
_WHOLE = ("torchvision:COCO_V1", "torchvision:DEFAULT")


_AS_THEY_ARE = (
    "steps",
    "lite",
    "reduced_tail",
    "mean",
    "std",
    "score_threshold",
    "nms_threshold",
    "detections_per_image",
    "topk_candidates",
)


@dataclass(frozen=True)
class Settled:
    """The arguments of :class:`limbeck.models.SSD`, with none left open but ``steps``.

    Attributes:
        levels: The first and the last level.
        image_size: The (height, width) of the network's images, in pixels.
        scales: The sides of the default boxes as parts of the image's sides, one for each level and
            one more.
        aspect_ratios: The ratios of the boxes at each level, beside 1.
        steps: The distance from box to box at each level, in pixels. None: there are as many boxes
            as the map has cells.
        lite: Heads and strided blocks are depthwise separable.
        reduced_tail: The last stage of MobileNetV3 has half the channels.
        mean: The mean of each input channel, RGB in [0, 1].
        std: The standard deviation of each input channel.
        score_threshold: The score that a detection has to exceed.
        nms_threshold: The IoU above which the lower of two detections of a class is dropped.
        detections_per_image: The greatest number of detections in an image.
        topk_candidates: The greatest number of detections of each class that enter NMS.
    """

    levels: tuple[int, int]
    image_size: tuple[int, int]
    scales: tuple[float, ...]
    aspect_ratios: tuple[tuple[float, ...], ...]
    steps: tuple[float, ...] | None
    lite: bool
    reduced_tail: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    score_threshold: float
    nms_threshold: float
    detections_per_image: int
    topk_candidates: int

    @property
    def count(self) -> int:
        """The number of levels."""
        return self.levels[1] - self.levels[0] + 1


def name_of(backbone: str | BasicBlocks) -> str:
    """The name that torchvision has for a backbone, or an empty one for the shape of a network."""
    return backbone.removeprefix("torchvision:") if isinstance(backbone, str) else ""


def settle_ssd(
    detector: type[LimbeckModel], scope: Mapping[str, Any]
) -> tuple[Source, Settled, dict[str, Any]]:
    """Open the weights of an SSD, and settle its arguments.

    Args:
        detector: The class whose constructor calls this.
        scope: The names in that constructor and their values, ``locals()``.

    Returns:
        The weights, opened; the arguments that decide the network, settled; and all arguments
        without the weights.

    Raises:
        ValueError: torchvision's backbone has other levels, or heads of the other kind; or the
            file of a VGG16 does not say how its images were normalised.
    """
    name, weights = name_of(scope["backbone"]), scope["weights"]
    if name == "vgg16" and weights == "torchvision:backbone":
        # The weights of SSD's authors, whose input is not scaled: torchvision's SSD300 has them.
        weights = "torchvision:IMAGENET1K_FEATURES"
    usual = _usual(name, weights) | input_of(scope["backbone"], weights)
    opened, arguments = settle(detector, {**scope, "weights": weights}, usual)
    if name == "vgg16":
        _check_colours(scope, opened)
    levels, size = tuple(arguments["levels"]), tuple(arguments["image_size"])
    count = levels[1] - levels[0] + 1
    if arguments["steps"] is None and name == "vgg16" and size == (300, 300):
        arguments["steps"] = _SSD300_STEPS
    ratios = arguments["aspect_ratios"] or ((2, 3),) * count
    found = Settled(
        levels=levels,
        image_size=size,
        scales=tuple(arguments["scales"] or _linear(count)),
        aspect_ratios=tuple(tuple(of_level) for of_level in ratios),
        **{n: arguments[n] for n in _AS_THEY_ARE},
    )
    if name in STOCK:
        _check_stock(name, found, arguments["extra_channels"])
    return opened, found, arguments | vars(found)


def _usual(name: str, weights: Any) -> dict[str, Any]:
    """The usual values for a backbone, and for what its published weights were trained with."""
    usual: dict[str, Any] = {"lite": False, "reduced_tail": False} | STOCK.get(name, _LIGHT)
    if isinstance(weights, str) and weights.startswith("torchvision:"):
        tag = weights.removeprefix("torchvision:").rpartition(".")[2]  # without the name of a class
        weights = f"torchvision:{tag}"
    if name == "vgg16" and weights == "torchvision:IMAGENET1K_V1":
        usual |= {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    if isinstance(weights, str) and not is_file_source(weights) and weights not in _WHOLE:
        usual["reduced_tail"] = False  # torchvision's ImageNet weights are of the whole tail
    return usual


def _linear(count: int) -> tuple[float, ...]:
    """The scales of so many levels, and one more (equation 4 of the paper)."""
    if count == 1:
        return (_LEAST, _MOST)
    step = (_MOST - _LEAST) / (count - 1)
    return (*(round(_LEAST + step * k, 4) for k in range(count)), 1.0)


def _check_colours(arguments: Mapping[str, Any], opened: Source) -> None:
    """Refuse a VGG16's file without its normalisation, of which two are in use."""
    if not isinstance(opened, Checkpoint) or opened.kind != "trunk":
        return
    if any(arguments[each] is None and each not in opened.arguments for each in ("mean", "std")):
        raise ValueError(
            f"weights={opened.source!r}: a file of a VGG16 does not say how its images were "
            f"normalised. Give mean={list(IMAGENET_DEFAULT_MEAN)} and "
            f"std={list(IMAGENET_DEFAULT_STD)} for torchvision's IMAGENET1K_V1, "
            "mean=[0.48235, 0.45882, 0.40784] and std=[0.0039216, 0.0039216, 0.0039216] (1/255) "
            "for IMAGENET1K_FEATURES."
        )


def _check_stock(name: str, found: Settled, channels: Any) -> None:
    stock = STOCK[name]
    lite = stock.get("lite", False)
    if found.levels != stock["levels"] or found.lite != lite or channels is not None:
        raise ValueError(
            f"levels={found.levels}, lite={found.lite}, extra_channels={channels}: torchvision's "
            f"SSD on {name} has levels={stock['levels']}, lite={lite} and channels of its own. "
            "Leave them out, or take another backbone."
        )
