"""What a student's card may have built in memory, found out before it is taken.

A card is data from anywhere: its arguments may ask for a network of any size, beside weights of a
few bytes. Parameters are counted as modules register them. A single one, or what it is computed
from, may already be too large, so the operations of a constructor are looked at, too.
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
from torch.utils._python_dispatch import TorchDispatchMode

from limbeck.checkpoints.tensors import Tensors

_REPEAT = torch.ops.aten.repeat.default


@contextmanager
def bounded(tensors: Tensors) -> Iterator[None]:
    """Refuse to build a model within that is much larger than its weights.

    Constructors make some parts that they do not keep, such as a trunk's own head.

    Args:
        tensors: The weights of the model.

    Yields:
        Nothing.

    Raises:
        ValueError: The model has many more values or tensors, or one of a constructor's operations
            makes a tensor of more bytes.
    """
    most = 120_000_000 + 4 * sum(tensor.numel() for tensor in tensors.values())
    most_tensors = 5_000 + 4 * len(tensors)
    refused = ValueError(
        f"its init_args make a network of more than {most} values or {most_tensors} tensors, "
        f"expected the {len(tensors)} tensors beside it. Save the student anew."
    )
    thread, values, registered = threading.get_ident(), 0, 0

    def count(_: nn.Module, __: str, made: Any) -> None:
        nonlocal values, registered
        if threading.get_ident() == thread and isinstance(made, Tensor):
            values, registered = values + made.numel(), registered + 1
        if values > most or registered > most_tensors:
            raise refused

    handles = (
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
    )
    try:
        with _Operations(4 * most, refused):
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within, an operation whose result would have more bytes is refused; others are run."""

    def __init__(self, most: int, refused: ValueError) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = most
        self.refused = refused

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if _bytes(operation, args, kwargs or {}) > self.most:
            raise self.refused
        return operation(*args, **(kwargs or {}))


def _bytes(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """How many bytes the result has: of the shape that is stated, or of those of the tensors."""
    given = [each for each in args if isinstance(each, Tensor)]
    shapes = [each for each in args if isinstance(each, list) and each and _are_sides(each)]
    values = max([1, *map(math.prod, shapes)])
    try:
        shape = torch.broadcast_shapes(*(tensor.shape for tensor in given))  # type: ignore[no-untyped-call]
        joint = math.prod(shape)
    except RuntimeError:  # it does not go element by element
        joint = max(tensor.numel() for tensor in given)
    types = [tensor.dtype for tensor in given] or [torch.get_default_dtype()]
    size = max(kind.itemsize for kind in (kwargs.get("dtype") or types[0], *types))
    return size * (values * joint if operation is _REPEAT else max(values, joint))


def _are_sides(values: list[Any]) -> bool:
    return all(isinstance(each, int) and each >= 0 for each in values)
