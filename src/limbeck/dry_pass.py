"""The dry pass: one tiny forward pass of both models, from which adapters are sized."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from limbeck.frame import fixed_size, takes_list
from limbeck.methods.base import Images
from limbeck.tap import TapError


@contextmanager
def explained_dry_pass(images: Images) -> Iterator[None]:
    """Say of an error that a model raises within that it came from the dry pass, and what to do."""
    try:
        yield
    except TapError:
        raise
    except Exception as error:
        error.add_note(
            f"In the dry pass that sizes the adapters, on images of {tuple(images[0].shape)}. "
            "Give Distillation an example=... of images that student and teacher take."
        )
        raise


def tiny_batch(model: nn.Module, device: torch.device) -> Images:
    """One black image, of 128 px or the size that the model takes; a list for a detector."""
    if takes_list(model):
        height, width = fixed_size(model) or (128, 128)
        return [torch.zeros(3, height, width, device=device)]
    return torch.zeros(1, 3, 128, 128, device=device)


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
