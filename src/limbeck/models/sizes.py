"""A bound on the size of a network while it is built, before it takes the memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook


@contextmanager
def bounded_size(values: int, tensors: int, refusal: Exception) -> Iterator[None]:
    """Within, this thread builds no network that is larger.

    Args:
        values: The most parameters, counted one by one.
        tensors: The most tensors of parameters.
        refusal: What is raised as soon as there are more.
    """
    thread, own_values, own_tensors = threading.get_ident(), 0, 0

    def count(_: nn.Module, __: str, parameter: Any) -> None:
        nonlocal own_values, own_tensors
        if threading.get_ident() == thread and parameter is not None:
            own_values, own_tensors = own_values + parameter.numel(), own_tensors + 1
        if own_values > values or own_tensors > tensors:
            raise refusal

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
