"""How the images of a transformer detector are prepared: as its library's processors do it."""

import importlib
import math
from collections.abc import Mapping
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from limbeck.arguments import shown, suits
from limbeck.models.detection.detr.configuration import Description
from limbeck.models.detection.parts.transform import Transform, refuse_vanishing, resized
from limbeck.models.detection.settling import first_not_none
from limbeck.models.hub import PREPROCESSOR

USUAL_SIZE, USUAL_LONGEST = (640, 640), 1333
_NO_NORMALISATION = ("rt_detr", "rt_detr_v2", "d_fine", "deimv2")
_STATED = {  # what a file may say, as a type and in words
    "do_normalize": (bool, "true or false"),
    "do_rescale": (bool, "true or false"),
    "image_mean": (tuple[float, float, float], "three numbers"),
    "image_std": (tuple[float, float, float], "three numbers"),
    "max_size": (int, "a number of pixels"),
    "rescale_factor": (float, "a number other than 0"),
    "size": (int | dict[str, int | None], "a number of pixels, or several by their names"),
}
_LARGEST = 255  # what 1.0 is in the pixels that the library's processors begin with


class ProcessorTransform(Transform):
    """Resizes images in evaluation mode to the sizes of the library's processors, with antialias.

    They resize 8-bit images; here floats are resized, so pixels may differ by a grey level.
    """

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Resize an image to the fixed size, or so that its shorter side is ``min_size``.

        Args:
            image: The image (3, H, W).
            target: The ``boxes`` (M, 4) of the image, which are scaled with it, or None.

        Returns:
            The image and the target. In training mode they are as they came.
        """
        if self.training:
            return image, target
        if self.fixed_size is None:
            sizes = importlib.import_module("transformers.image_transforms")
            size = sizes.get_size_with_aspect_ratio(
                image.shape[-2:], self.min_size[-1], self.max_size
            )
        else:
            size = self.fixed_size[::-1]
        return resized(image, target, size, antialias=True)


def settled_images(
    given: Mapping[str, Any], weights: Mapping[str, Any], description: Description
) -> dict[str, Any]:
    """The sizes and the normalisation of the images, with none left open.

    Args:
        given: The arguments as the user gave them, None where they are open.
        weights: What a student's weights say of the same arguments.
        description: What is said of the network, which counts where neither says anything.

    Returns:
        The arguments ``image_size``, ``min_size``, ``max_size``, ``mean`` and ``std``.

    Raises:
        ValueError: Two sizes are given, or the description says what is not understood.
    """
    _refuse_misfits(description.preprocessor)
    image_size, min_size = given["image_size"], given["min_size"]
    if image_size is not None and min_size is not None:
        raise ValueError(
            f"image_size is {image_size} and min_size {min_size}; expected one of them. Leave the "
            "other one out."
        )
    longest = given["max_size"]
    if image_size is None and min_size is None:
        image_size = weights.get("image_size")
        if image_size is None:
            image_size, min_size, stated = _stated_size(description.preprocessor)
            longest = first_not_none(longest, stated)
    mean, std = _stated_normalisation(description)
    return {
        "image_size": image_size,
        "min_size": min_size,
        "max_size": None if image_size else first_not_none(longest, USUAL_LONGEST),
        "mean": first_not_none(given["mean"], weights.get("mean"), mean),
        "std": first_not_none(given["std"], weights.get("std"), std),
    }


def transform_of(settled: Mapping[str, Any], multiple: int) -> Transform:
    """The transform that resizes in evaluation mode alone, and pads to multiples of a side.

    Args:
        settled: What :func:`settled_images` gives.
        multiple: What the sides of a batch have to be multiples of, in pixels.

    Returns:
        The transform.

    Raises:
        ValueError: The size of the images is no such multiple.
    """
    mean, std, size = settled["mean"], settled["std"], settled["image_size"]
    if size is None:
        sizes = settled["min_size"], settled["max_size"]
        transform = ProcessorTransform(*sizes, mean, std, multiple)
    else:
        height, width = size
        if height % multiple or width % multiple:
            raise ValueError(
                f"image_size is {tuple(size)}; this network needs a height and a width that are "
                f"multiples of {multiple}. Give such."
            )
        transform = ProcessorTransform(
            min(size), max(size), mean, std, multiple, fixed_size=(width, height)
        )
    transform.register_forward_pre_hook(refuse_vanishing)
    return transform


def preprocessor_of(settled: Mapping[str, Any]) -> dict[str, Any]:
    """What images are brought to, as the library's own processors take it.

    Args:
        settled: What :func:`settled_images` gives.

    Returns:
        The contents of ``preprocessor_config.json``.
    """
    height_width = settled["image_size"]
    size = {"shortest_edge": settled["min_size"], "longest_edge": settled["max_size"]}
    if height_width is not None:
        size = dict(zip(("height", "width"), height_width, strict=True))
    return {
        "image_processor_type": "DetrImageProcessor",
        "do_resize": True,
        "size": size,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": settled["mean"],
        "image_std": settled["std"],
        "do_pad": height_width is None,
    }


def _refuse_misfits(stated: Mapping[str, Any]) -> None:
    """Refuse a value of another type than processors write, which may be null everywhere."""
    for name, (kind, told) in _STATED.items():
        value = stated.get(name)
        is_zero = name == "rescale_factor" and value == 0
        if value is not None and (is_zero or not suits(value, kind)):
            raise ValueError(
                f"{PREPROCESSOR} of the network: {name} is {shown(value)}; expected {told}. "
                "Correct it."
            )


def _stated_size(stated: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """The (height, width), or the shorter side and the bound of the longer one, in pixels."""
    size, longest = stated.get("size"), stated.get("max_size")
    if size is None:
        return USUAL_SIZE, None, None
    if isinstance(size, int):  # as processors of earlier versions wrote it
        return None, size, longest
    if isinstance(size, Mapping):
        if size.get("shortest_edge") is not None:
            return None, size["shortest_edge"], first_not_none(size.get("longest_edge"), longest)
        if {"height", "width"} <= size.keys():
            return (size["height"], size["width"]), None, None
    raise ValueError(
        f"{PREPROCESSOR} of the network: size is {shown(size)}; expected height and width, or "
        "shortest_edge and longest_edge. Give image_size or min_size, which count in its place."
    )


def _stated_normalisation(description: Description) -> tuple[list[float], list[float]]:
    """The mean and the deviation of images in [0, 1], whatever pixels the processor makes."""
    stated = description.preprocessor
    plain = description.config["model_type"] in _NO_NORMALISATION
    mean, std = (0.0,) * 3, (1.0,) * 3
    if first_not_none(stated.get("do_normalize"), not plain):
        mean = first_not_none(stated.get("image_mean"), IMAGENET_DEFAULT_MEAN)
        std = first_not_none(stated.get("image_std"), IMAGENET_DEFAULT_STD)
    rescales = first_not_none(stated.get("do_rescale"), True)
    factor = first_not_none(stated.get("rescale_factor"), 1 / _LARGEST) if rescales else 1.0
    scale = 1.0 if math.isclose(factor * _LARGEST, 1) else factor * _LARGEST
    return [each / scale for each in mean], [each / scale for each in std]
