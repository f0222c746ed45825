"""Loading state dicts so that nothing is left out without a word."""

import difflib
import textwrap

from torch import nn

from limbeck.checkpoints.tensors import Tensors


def load_strictly(module: nn.Module, tensors: Tensors, origin: str, advice: str) -> None:
    """Load a state dict into a module, strictly, with an error that says what to do.

    Args:
        module: The module, whose parameters and buffers are overwritten.
        tensors: The state dict.
        origin: Where the state dict is from, which begins the error.
        advice: What the user can do, which ends the error.

    Raises:
        ValueError: Names or shapes differ. The module may be filled in part.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        # A hostile file may have a name of megabytes, or a hundred thousand names.
        found = [textwrap.shorten(line[:2000], 240) for line in str(error).split("\n\t")[1:]]
        more = [f"... and {len(found) - 6} more"] if len(found) > 6 else []
        lines = "\n  ".join([*found[:6], *more, *_nearest(module, tensors)])
        raise ValueError(f"{origin} does not fit:\n  {lines}\n{advice}") from None


def _nearest(module: nn.Module, tensors: Tensors) -> list[str]:
    """A line for each of a few missing names that are near to one that is left over."""
    own = module.state_dict().keys()
    left = [name for name in tensors if name not in own and len(name) < 200][:2000]
    missing = [name for name in own if name not in tensors and "num_batches" not in name]
    near = {name: difflib.get_close_matches(name, left, n=1) for name in missing[:3]}
    return [f'nearest to "{name}" is "{found[0]}"' for name, found in near.items() if found]
