"""Detectors by a word: ``retinanet-resnet50``, ``fcos-timm:resnet10t``, ``yolox-s``."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from limbeck.commands.anchor_arguments import anchor_arguments, objects_seen
from limbeck.commands.starting.commented import Chosen
from limbeck.commands.starting.measured import Measured
from limbeck.commands.starting.named_model import (
    BLOCKS,
    IMAGENET,
    LIGHT,
    OF_TIMM,
    SCRATCH,
    Form,
    Model,
)
from limbeck.commands.starting.rules import last_level
from limbeck.models.detection.libreyolo.families import FAMILIES, Family
from limbeck.models.detection.libreyolo.libre_yolo import family_and_size

_KINDS = {
    "retinanet": "RetinaNet",
    "faster-rcnn": "FasterRCNN",
    "fcos": "FCOS",
    "gfl": "GFL",
    "ssd": "SSD",
}
_TRUNKS = ("resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2", LIGHT)
_OF_SSD = ("vgg16", "mobilenet_v3_large")
_TIMM = "timm:"
_LEAST = 288  # pixels: these need images of 268 px, and sides are multiples of 32
_OF_LIBRARY = (
    "The first run downloads the weights that LibreYOLO publishes for COCO, and says their licence "
    "as far as it is known. To go without, give the path of a file that you have, or leave weights "
    "out and train for far longer."
)


def detector(word: str, data: Measured, size: Sequence[int]) -> Model:
    """One of limbeck's detectors, by its kind and its trunk, or one of LibreYOLO's, by its name.

    Args:
        word: The word, such as ``retinanet-resnet50``, ``fcos-timm:resnet10t`` or ``yolox-s``.
        data: What the data are like.
        size: The ``[shorter, longer]`` side of images.

    Returns:
        The detector.

    Raises:
        ImportError: LibreYOLO is not installed.
        ValueError: There is no such detector.
    """
    if word.partition("-")[0] in FAMILIES:
        return _of_libreyolo(word, data, size)
    prefix, trunk = _kind_and_trunk(word)
    of_timm = trunk.startswith(_TIMM)
    known = {each: _TRUNKS + (_OF_SSD if each == "ssd" else ()) for each in _KINDS}
    if prefix is None or not (of_timm or trunk in known[prefix]):
        every = ", ".join(f"{each}-{'|'.join(trunks)}" for each, trunks in known.items())
        raise ValueError(
            f"there is no detector {word!r}. Expected one of {every}; one of these kinds on a "
            "network of timm's, such as retinanet-timm:tf_efficientnet_lite0; one of LibreYOLO's, "
            "such as yolox-s; a name on the hub with a slash, such as PekingU/rtdetr_r18vd; or a "
            "folder."
        )
    light = trunk == LIGHT
    begin = Chosen(BLOCKS, SCRATCH) if light else trunk
    arguments: dict[str, Any] = {"backbone": begin, "num_classes": len(data.classes)}
    if of_timm:
        arguments["weights"] = Chosen("timm:backbone", OF_TIMM)
    elif not light:
        arguments["weights"] = Chosen("torchvision:backbone", IMAGENET)
    short, long = size
    kind = _KINDS[prefix]
    if kind == "SSD":
        arguments["image_size"] = _as_most_lie(data, short, long)
        if trunk not in _OF_SSD:
            arguments["levels"] = [3, min(8, short.bit_length() - 1)]
    else:
        arguments |= _pyramid(kind, short, light=light) | {"min_size": short, "max_size": long}
    if light or kind != "SSD":
        arguments["norm"] = "trained" if light else "frozen"
    made = Model(
        word,
        f"limbeck.models.{kind}",
        arguments,
        "fixed" if kind == "SSD" else "pyramid",
        from_scratch=light,
        pretrained=None if light else "backbone.features" if trunk in _OF_SSD else "backbone.body",
    )
    return with_anchors(made, data)


def _of_libreyolo(word: str, data: Measured, size: Sequence[int]) -> Model:
    """A detector of LibreYOLO's, whose frame holds images whole, or which stretches them."""
    family, letter = family_and_size(word)
    short, long = size
    form = form_in_libreyolo(family)
    square = Chosen([long, long], "Images keep their aspect, and the rest of the frame is grey.")
    arguments = {
        "network": word,
        "num_classes": len(data.classes),
        "weights": Chosen(family.published(letter), _OF_LIBRARY),
        "image_size": square if form == "letterbox" else _as_most_lie(data, short, long),
    }
    kind = "limbeck.models.LibreYOLODetector"
    return Model(word, kind, arguments, form, pretrained="network.backbone")


def form_in_libreyolo(family: Family) -> Form:
    """Whether a family of LibreYOLO's keeps the aspect of images, or stretches them to its frame.

    Args:
        family: The family.

    Returns:
        The form.
    """
    return "letterbox" if family.preprocessing.letterboxed else "fixed"


def _as_most_lie(data: Measured, short: int, long: int) -> list[int]:
    """The (height, width) of a frame of these sides, lying where most images do."""
    lying = (data.extents[:, 1] >= data.extents[:, 0]).float().mean() >= 0.5
    return [short, long] if lying else [long, short]


def transformer(
    word: str, network: str, data: Measured, size: Sequence[int], weights: Chosen, *, hub: bool
) -> Model:
    """A detector of Hugging Face's transformers.

    Args:
        word: What it was named by.
        network: Its folder, or its name on the hub.
        data: What the data are like.
        size: The ``[shorter, longer]`` side of images.
        weights: What it begins with, and why.
        hub: Whether the hub alone describes it.

    Returns:
        The detector.
    """
    short, long = size
    sizes = Chosen(short, "In training, and where it is measured, images keep their aspect.")
    arguments = {
        "network": network,
        "num_classes": len(data.classes),
        "weights": weights,
        "min_size": sizes,
        "max_size": long,
    }
    kind = "limbeck.models.HuggingFaceDetector"
    return Model(word, kind, arguments, "transformer", pretrained="network.model.backbone", hub=hub)


def least_side(words: Iterable[str]) -> int:
    """The least shorter side of images, in pixels, that all detectors of these words take."""
    kinds = [_kind_and_trunk(word) for word in words]
    return _LEAST if any(kind == "ssd" and trunk in _OF_SSD for kind, trunk in kinds) else 0


def with_anchors(model: Model, data: Measured) -> Model:
    """A detector with the anchors that cover the objects of the data best, if it has such.

    Args:
        model: The model.
        data: What the data are like.

    Returns:
        The model, with the arguments of its anchors.
    """
    form = None if model.kind == "HuggingFaceDetector" else anchor_arguments(model.built)
    if form is None or model.ready:
        return model
    objects = objects_seen(form.detector, data.data)
    best = form.best(objects)
    now, then = (form.coverage(objects, each) for each in (form.present, best))
    why = (
        f"By `limbeck anchors`: {then.recall:.0%} of the objects have an anchor of an IoU of "
        f"{then.threshold:g} or more, where the usual anchors reach {now.recall:.0%}."
    )
    (first, value), *others = best.items()
    return replace(model, arguments={**model.arguments, first: Chosen(value, why), **dict(others)})


def _kind_and_trunk(word: str) -> tuple[str | None, str]:
    """Which kind of detector a word names, None where it names none, and on which trunk."""
    plain_word = re.sub(r"^fasterrcnn", "faster-rcnn", word.lower().replace("_", "-"))
    plain_word = plain_word.removesuffix("-fpn")
    prefix = next((each for each in _KINDS if plain_word.startswith(f"{each}-")), None)
    return prefix, plain_word.removeprefix(f"{prefix}-").replace("-", "_")


def _pyramid(kind: str, short: int, *, light: bool) -> dict[str, Any]:
    """The levels of a pyramid, its width, and the numerics that suit images of any size."""
    last = last_level(short)
    levels = [3, last]
    if kind == "FasterRCNN":
        levels = [2, 6 if last == 7 else 5]
    arguments: dict[str, Any] = {"levels": levels}
    if kind in ("RetinaNet", "FasterRCNN") and last == 7:
        why = (
            "With torchvision's numerics, the anchors of P6 and P7 drift beside their cells unless "
            "both sides of the images are multiples of 128 px; mmdetection's have no such bound."
        )
        arguments["preset"] = Chosen("mmdetection", why)
    if light:
        arguments["fpn_channels"] = 128
        arguments |= {"box_head_channels": 256} if kind == "FasterRCNN" else {"head_depth": 2}
    return arguments
