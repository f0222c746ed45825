"""Reading files of weights, and loading them so that nothing is left out unsaid."""

import pickle
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from limbeck.models.build import Tensors


def read_tensors(path: Path) -> Tensors:
    """The state dict in a ``.safetensors`` file or a ``torch.save`` file (no code is run).

    ``{"state_dict": ...}`` and ``{"model": ...}`` around it, and the ``module.`` that DDP puts
    before every name, are taken off.

    Raises:
        ValueError: The file cannot be read, or holds no state dict.
    """
    loaded: Any
    try:
        if path.suffix == ".safetensors":
            loaded = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be read as weights: {textwrap.shorten(str(error), 300)} "
            "Expected .safetensors, or a state dict kept with torch.save (tensors only)."
        ) from None
    for container in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(container), Mapping):
            loaded = loaded[container]
    if not isinstance(loaded, Mapping) or not loaded or not _all_tensors(loaded):
        found = sorted(map(str, loaded))[:5] if isinstance(loaded, Mapping) else type(loaded)
        raise ValueError(
            f"{path} holds no state dict: found {found}, expected names and tensors, alone or "
            "under 'state_dict' or 'model'. Keep `model.state_dict()` in it."
        )
    shared = "module." if all(name.startswith("module.") for name in loaded) else ""
    return {name.removeprefix(shared): value for name, value in loaded.items()}


def load_strictly(module: nn.Module, tensors: Tensors, origin: str, advice: str) -> None:
    """``module.load_state_dict``, strict, with an error that says what to do.

    Raises:
        ValueError: Names or shapes differ; ``module`` may be filled in part.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        found = [textwrap.shorten(line, 240) for line in str(error).split("\n\t")[1:]]
        more = [f"... and {len(found) - 6} more"] if len(found) > 6 else []
        lines = "\n  ".join([*found[:6], *more])
        raise ValueError(f"{origin} does not fit:\n  {lines}\n{advice}") from None


def _all_tensors(loaded: Mapping[object, object]) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in loaded.items())
