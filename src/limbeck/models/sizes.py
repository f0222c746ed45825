"""Bounds on the size of a network while it is built, before it takes the memory.

Parameters and buffers are counted as modules register them. A single one, or what it is computed
from, may already be too large, so that the operations of a constructor can be bounded, too.
"""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

_REPEAT = torch.ops.aten.repeat.default


@contextmanager
def bounded_size(values: int, tensors: int, refusal: Exception) -> Iterator[None]:
    """Within, this thread builds no network that is larger.

    Args:
        values: The most values of all parameters and buffers.
        tensors: The most parameters and buffers.
        refusal: What is raised as soon as there are more.
    """
    thread, own_values, own_tensors = threading.get_ident(), 0, 0

    def count(_: nn.Module, __: str, made: Any) -> None:
        nonlocal own_values, own_tensors
        known = isinstance(made, Tensor) and not is_lazy(made)  # whose size the first pass says
        if threading.get_ident() == thread and known:
            own_values, own_tensors = own_values + made.numel(), own_tensors + 1
        if own_values > values or own_tensors > tensors:
            raise refusal

    handles = (
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class BoundedOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within, this thread makes no tensor that is larger. Each operation takes some microseconds.

    Args:
        most: The most bytes of a tensor.
        refusal: What is raised before one of more is made.
    """

    def __init__(self, most: int, refusal: Exception) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = most
        self.refusal = refusal

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, unless it would make too much."""
        if _bytes(operation, args, kwargs or {}) > self.most:
            raise self.refusal
        return operation(*args, **(kwargs or {}))


def _bytes(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """How many bytes the result has: of the shape that is stated, or of those of the tensors."""
    given = [each for each in args if isinstance(each, Tensor)]
    shapes = [each for each in args if isinstance(each, list) and each and _are_sides(each)]
    stated = max([1, *map(math.prod, shapes)])
    try:
        shape = torch.broadcast_shapes(*(tensor.shape for tensor in given))  # type: ignore[no-untyped-call]
        joint = math.prod(shape)
    except RuntimeError:  # it does not go element by element
        joint = max(tensor.numel() for tensor in given)
    types = [tensor.dtype for tensor in given] or [torch.get_default_dtype()]
    size = max(kind.itemsize for kind in (kwargs.get("dtype") or types[0], *types))
    values = stated * joint if operation is _REPEAT else max(stated, joint)
    return int(size * values)


def _are_sides(values: list[Any]) -> bool:
    return all(isinstance(each, int) and each >= 0 for each in values)
