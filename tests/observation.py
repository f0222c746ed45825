"""What a test sees of a model from outside: hooks, calls, weights, memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


def hook_count(model: nn.Module) -> int:
    """Forward hooks and forward pre-hooks in the whole model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@contextmanager
def calls_of(module: nn.Module) -> Iterator[list[None]]:
    """A list that grows with every call of the module."""
    calls: list[None] = []
    handle = module.register_forward_pre_hook(lambda *_: calls.append(None))
    try:
        yield calls
    finally:
        handle.remove()


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Copies of every parameter and buffer."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in named}


def same(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    """Whether two snapshots are equal, bit for bit."""
    return before.keys() == after.keys() and all(
        torch.equal(before[name], after[name]) for name in before
    )


class Allocated(TorchDispatchMode):
    """The bytes of every new tensor within; their sum is more than is ever held at once."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        known = {t.untyped_storage().data_ptr() for t in args if isinstance(t, torch.Tensor)}
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if (
                isinstance(tensor, torch.Tensor)
                and tensor.untyped_storage().data_ptr() not in known
            ):
                self.sizes.append(tensor.untyped_storage().nbytes())
        return result
