"""The dry pass: one tiny forward pass of both models, from which adapters are sized."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from limbeck.frame import Extent, FormError, own_size, takes_list
from limbeck.methods.base import Images
from limbeck.tap import TapError


@contextmanager
def explained_dry_pass(images: Images, models: Mapping[str, nn.Module]) -> Iterator[None]:
    """Say of an error that a model raises within that it came from the dry pass, and what to do.

    Args:
        images: The images of the dry pass.
        models: The student and its teachers, by what messages call them.

    Raises:
        ValueError: A model raised an error other than a FormError or a TapError, which say enough.
    """
    try:
        yield
    except (FormError, TapError):
        raise
    except Exception as error:
        raise ValueError(
            f"the dry pass that sizes the adapters, on images of {tuple(images[0].shape)}, ended "
            f"with {type(error).__name__}: {str(error).rstrip('.')}. "
            f"{_other_precision(images, models) or _sizes(models)}"
        ) from error


def _sizes(models: Mapping[str, nn.Module]) -> str:
    """Which sizes the models are made for, and what to do."""
    sizes = ""
    for side, model in models.items():
        size = own_size(model)
        if size is not None:
            sizes += f"The {side} ({type(model).__name__}) is made for {size[0]} x {size[1]} px. "
    return (
        f"{sizes}Student and teacher have to take images of one size: state it as model.example: "
        "[height, width] in a recipe, or give Distillation an example=... of images that both take."
    )


def _other_precision(images: Images, models: Mapping[str, nn.Module]) -> str:
    """Which model has other numbers than the images, and what to do; empty where none has."""
    if torch.is_autocast_enabled(images[0].device.type):
        return ""
    for side, model in models.items():
        own = {p.dtype for p in model.parameters() if p.is_floating_point()}
        if own - {images[0].dtype}:
            found = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in own))
            return (
                f"The {side} ({type(model).__name__}) has parameters of {found}, and the images "
                f"are {str(images[0].dtype).removeprefix('torch.')}. Keep both models in float32, "
                "and build and run the Distillation under torch.autocast for half precision "
                "(trainer.precision in a recipe)."
            )
    return ""


def tiny_batch(models: Sequence[nn.Module], size: Extent | None, device: torch.device) -> Images:
    """One black image, as a list where the student is a detector.

    Args:
        models: The student, and then its teachers.
        size: The (height, width) of the image in pixels. None: the size that the student or else
            a teacher is made for, and 128 px where all take any.
        device: The device of the image.

    Returns:
        An image (1, 3, H, W), or a list of one (3, H, W).

    Raises:
        ValueError: The size is not two numbers above 0.
    """
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(
            f"example is {size}; expected a height and a width in pixels, such as (224, 224), or a "
            "tensor (B, 3, H, W), or for detectors a list of (3, H, W)."
        )
    own = next((of_model for model in models if (of_model := own_size(model))), None)
    height, width = size or own or (128, 128)
    images = torch.zeros(1, 3, height, width, device=device)
    return list(images) if takes_list(models[0]) else images


@contextmanager
def evaluation(*models: nn.Module | None) -> Iterator[None]:
    """Within, the models are in evaluation mode; after, every module is in its own mode again."""
    modes = {module: module.training for m in models if m is not None for module in m.modules()}
    try:
        for model in models:
            if model is not None:
                model.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def told_of(what: str) -> Iterator[None]:
    """Within, an error begins with what it is about.

    Args:
        what: What that is, such as a method by its name.

    Raises:
        limbeck.TapError: A tap is told of.
        ValueError: Anything else is.
    """
    try:
        yield
    except TapError as error:
        raise TapError(f"{what}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
