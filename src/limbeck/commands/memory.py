"""Networks that this machine's memory cannot hold, refused by the key of the recipe."""

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from limbeck.arguments import imported
from limbeck.commands.errors import RecipeError
from limbeck.models.sizes import bounded_size

_MOST_TENSORS = 30_000  # a ResNet-152 has 467
# What torch says of a tensor that is larger than the memory, or than a 64-bit number of bytes.
_OUT_OF_MEMORY = ("allocate memory", "not enough memory", "out of memory", "size calculation over")


@contextmanager
def refuse_oversized(stated: Any) -> Iterator[None]:
    """Within, the networks of a recipe are built; those that cannot fit into the memory are told.

    The parameters are counted while they are made, and the first that is too many is the last.

    Args:
        stated: The values of all keys.

    Raises:
        RecipeError: A network does not fit into the memory.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    oversized = RecipeError("the network is too large")
    try:
        with bounded_size(memory // 4, _MOST_TENSORS, oversized):
            yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and cause is not oversized and not _is_of_memory(cause):
            cause = cause.__cause__
        if cause is None:
            raise
        raise RecipeError(
            f"{_key_of(stated, cause)} asks for more than the {memory / 2**30:.0f} GiB of memory "
            f"that this machine has, or for more than {_MOST_TENSORS:,} tensors. Expected a "
            "network that fits. Give a smaller one: fewer layers, channels or classes."
        ) from error


def _is_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _OUT_OF_MEMORY)


def _key_of(stated: Any, error: BaseException) -> str:
    """The key of the network in whose constructor an error was raised."""
    trace, running = error.__traceback__, set()
    while trace is not None:
        running.add(trace.tb_frame.f_code)
        trace = trace.tb_next
    stated_models = {f"model.{side}": stated.model.get(side) for side in ("teacher", "student")}
    further = stated.model.get("teachers") or {}
    stated_models |= {f"model.teachers.{name}": further[name] for name in further}
    keys = [key for key, model in stated_models.items() if _code_of(model) in running]
    return " or ".join(keys) or "model"


def _code_of(side: Any) -> Any:
    path = getattr(side, "class_path", None)
    if path is None:
        return None
    maker = inspect.unwrap(imported(path))
    return getattr(maker.__init__ if inspect.isclass(maker) else maker, "__code__", None)
