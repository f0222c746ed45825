"""A device that is not there, on which operations are counted: what a GPU would be asked to do.

Tensors on it say that they are on ``meta``, so that code which goes by the device takes the way of
a GPU, and moves to and from it are operations. Each holds its values on the CPU, where all that is
asked for is computed: steps that depend on data run as they are, forward and backward. Autograd
works above it, and runs the backward pass in the same thread.

What it cannot see: which kernels an operation becomes (it counts operations of ``aten`` and
``torchvision`` that write memory), waits within a kernel's own code (NMS is known to have one), and
what CUDA's libraries do otherwise (cuDNN is off). Autocast and generators of the device are those
of the CPU.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map_only

WAIT, COPY, LAUNCH = "wait", "copy", "launch"
AWAY = torch.device("meta")
HOST = torch.device("cpu")

# The host reads a value, or needs to know how large the result is.
_READING = {
    "aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::masked_select",
    "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::bincount",
    "torchvision::nms",
}  # fmt: skip
_MASKED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
_SILENT = {"aten::empty", "aten::empty_strided", "aten::empty_like", "aten::new_empty",
           "aten::new_empty_strided", "aten::_unsafe_view", "aten::_reshape_alias"}  # fmt: skip
# Functions that do as they are told: what counts is who called them.
_TOOLS = ("/torch/", "/torchvision/ops/", "/torchvision/models/detection/_utils.py")
_OWNERS = ("limbeck/methods", "limbeck", "torchvision", "timm")


class Away(Tensor):
    """A tensor on the device; what it holds is on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Away":
        """An empty shell with the other one's shape."""
        return Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=AWAY,
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Outside of a count nothing is computed."""
        raise RuntimeError(f"{func} on a device that is there while it is counted alone")


@dataclass(frozen=True)
class Asked:
    """One kind of operation, and who asked for it.

    Attributes:
        kind: ``wait``, ``copy`` (from the host, which waits for it as well) or ``launch``.
        operator: its name, such as ``aten::nonzero``.
        owner: the package whose code called it; ``backward`` for those of the backward pass.
    """

    kind: str
    operator: str
    owner: str


@dataclass
class Counts:
    """How often everything was asked for."""

    of: Counter[Asked] = field(default_factory=Counter)

    def total(self, *kinds: str, owner: str = "") -> int:
        """How many of these kinds were asked for, by owners whose names begin so."""
        return sum(n for a, n in self.of.items() if a.kind in kinds and a.owner.startswith(owner))

    def by_operator(self, *kinds: str) -> Counter[str]:
        """The number of each operator."""
        found: Counter[str] = Counter()
        for asked, number in self.of.items():
            if asked.kind in kinds:
                found[asked.operator.partition("::")[2]] += number
        return found


@contextmanager
def counted() -> Iterator[Counts]:
    """Within, tensors can be brought to the device, and what is done on it is counted."""
    counts = Counts()
    of_host = mock.patch.multiple(torch, autocast=_Autocast, Generator=_generator)
    with torch.backends.cudnn.flags(enabled=False), of_host, _Device(counts), _Lists():
        yield counts


class _Autocast(torch.autocast):
    """Autocast, which knows no ``meta``."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(_host(device_type).type, *args, **kwargs)


def _generator(device: torch.device | str = HOST, make: Any = torch.Generator) -> torch.Generator:
    """A generator, of which there is none on ``meta``."""
    return make(_host(device))


def _host(device: torch.device | str) -> torch.device:
    """The device where what is asked of one is computed."""
    device = torch.device(device)
    return HOST if device == AWAY else device


class _Device(TorchDispatchMode):
    """Computes on the CPU, and counts."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors: list[Tensor] = []
        tree_map_only(Tensor, tensors.append, (args, kwargs))
        lost = [t for t in tensors if t.device == AWAY and not isinstance(t, Away)]
        assert not lost, f"{func} has a tensor without values"
        from_away = any(isinstance(tensor, Away) for tensor in tensors)
        target = kwargs.get("device")
        to_away = from_away if target is None else torch.device(target) == AWAY
        if from_away or to_away:
            for kind in _kinds(func, args, kwargs, tensors, from_away, to_away):
                self.counts.of[Asked(kind, func._schema.name, _owner())] += 1
        if target is not None:
            kwargs["device"] = HOST
        if func._schema.name == "aten::_to_copy" and from_away != to_away:
            kwargs["non_blocking"] = False
        held_args, held_kwargs = tree_map_only(Away, lambda tensor: tensor.held, (args, kwargs))
        found = func(*held_args, **held_kwargs)
        if not to_away or func._schema.name == "aten::_local_scalar_dense":
            return found
        found = tree_map_only(Tensor, lambda t: t if isinstance(t, Away) else Away(t), found)
        if func is torch.ops.aten.detach.default:
            return found
        return return_and_correct_aliasing(func, args, kwargs, found)


def _kinds(
    func: Any, args: Any, kwargs: Any, tensors: list[Tensor], from_away: bool, to_away: bool
) -> Iterator[str]:
    """What the host waits for in an operation, and whether it starts one on the device."""
    name = func._schema.name
    if name == "aten::copy_":
        from_away, to_away = isinstance(args[1], Away), isinstance(args[0], Away)
    if name in ("aten::_to_copy", "aten::copy_") and from_away != to_away:
        yield COPY if to_away else WAIT
        return
    if _waits(name, args, kwargs):
        yield WAIT
    # A host tensor of several values in the middle of tensors of the device is moved there, and so
    # is the number that is put at some indices.
    several = any(t.numel() > 1 for t in tensors if not isinstance(t, Away))
    if several or ("index_put" in name and not isinstance(args[2], Away) and not _fills(args)):
        yield COPY
    if not _is_view(func) and name not in _SILENT and name != "aten::_local_scalar_dense":
        yield LAUNCH


def _waits(name: str, args: Any, kwargs: Any) -> bool:
    if name == "aten::repeat_interleave":
        return kwargs.get("output_size") is None
    return name in _READING or (name in _MASKED and bool(_masks(args)) and not _fills(args))


def _masks(args: Any) -> list[Tensor]:
    return [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]


def _fills(args: Any) -> bool:
    """Whether one number of the host is put where one mask is: such a mask needs no indices."""
    value = args[2] if len(args) > 2 else None
    on_host = isinstance(value, Tensor) and not isinstance(value, Away)
    return on_host and value.numel() == 1 and len(args[1]) == len(_masks(args)) == 1


def _is_view(func: Any) -> bool:
    aliased = [r.alias_info for r in func._schema.returns if r.alias_info is not None]
    return bool(aliased) and not any(info.is_write for info in aliased)


def _owner() -> str:
    """The package of the innermost function that is no mere tool."""
    frame = sys._getframe(2)
    while frame is not None:
        owner = _owner_of(frame.f_code.co_filename)
        if owner is not None:
            return owner
        frame = frame.f_back
    return "other"


@cache
def _owner_of(file: str) -> str | None:
    """The package that a file with code belongs to; None: a mere tool, or somebody else's."""
    path = Path(file).as_posix()
    if "/torch/autograd/graph.py" in path:
        return "backward"
    if any(tool in path for tool in _TOOLS):
        return None
    return next((owner for owner in _OWNERS if f"/{owner}/" in path), None)


class _Lists(TorchFunctionMode):
    """Makes visible what torch's own C++ does with values of Python: it makes tensors of them."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor):
            return _moved(func, args, kwargs, kwargs.pop("device", None))
        if func is Tensor.new_tensor:
            values = {"dtype": args[0].dtype} | kwargs
            return _moved(torch.tensor, args[1:], values, values.pop("device", args[0].device))
        if func is Tensor.tolist and isinstance(args[0], Away):
            return args[0].cpu().tolist()
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], Away):
            args = (args[0], _index(args[1]), *args[2:])
            if func is Tensor.__setitem__ and not isinstance(args[2], Tensor):
                args = _with_number(*args)
        return func(*args, **kwargs)


def _moved(make: Callable[..., Tensor], args: Any, kwargs: Mapping[str, Any], device: Any) -> Any:
    made = make(*args, **kwargs)
    return made if device is None or torch.device(device) != AWAY else made.to(AWAY)


def _index(index: Any) -> Any:
    """An index whose lists of numbers are tensors on the device."""
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    return torch.tensor(index).to(AWAY) if isinstance(index, list) else index


def _with_number(tensor: Tensor, index: Any, number: Any) -> tuple[Any, ...]:
    """The arguments of an assignment by tensors: for a GPU, the number stays on the host."""
    by_tensor = any(
        isinstance(i, Tensor) for i in (index if isinstance(index, tuple) else (index,))
    )
    return tensor, index, torch.tensor(number, dtype=tensor.dtype) if by_tensor else number
