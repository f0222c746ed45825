"""A tap: one named place in a model whose value is read during a forward pass."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

Side = Literal["input", "output", "call"]
Kind = Literal["tensor", "levels", "anchors", "frame", "logits"]

_WRITTEN = re.compile(
    r"(?P<path>[\w.]*)"
    r"(?::(?P<side>input|output))?"
    r"(?:\[(?P<calls>\*|-?\d+)\])?"
    r"(?P<keys>(?:/[\w.-]+)*)"
)


class TapError(RuntimeError):
    """A tap that does not exist, never fired, or whose value cannot be trusted."""


@dataclass(frozen=True)
class Call:
    """One call of a module, for taps whose meaning needs more than the output.

    Attributes:
        module: The module that was called.
        args: The positional arguments that it was called with.
        output: What it returned.
    """

    module: nn.Module
    args: tuple[Any, ...]
    output: Any


@dataclass(frozen=True)
class Tap:
    """One place in a model that is read.

    It is written ``path[:input|:output][[calls]][/key...]``: ``backbone.fpn``,
    ``backbone.body.layer4.2.relu:input``, ``head.classification_head.conv[*]`` (every call, a
    list: a RetinaNet's tower runs once a level), ``backbone/p6`` (one item of a dict or a tuple).
    An empty path is the model itself.

    Attributes:
        path: The path of the module, as in ``model.get_submodule``.
        side: What is read of the module: its ``input`` (its only argument, or the tuple of them),
            its ``output``, or the whole ``call`` (a :class:`Call`).
        calls: Which call's value is read, counted from 0 or from the end. None: all, as a list.
        keys: The items to pick from the value, one after the other.
        select: A small function that is applied to the value after ``keys``.
        kind: The type of the value: one tensor; a list over levels; ``anchors[image][level]``;
            a :class:`limbeck.frame.Frame`; logits (B, K).
    """

    path: str
    side: Side = "output"
    calls: int | None = -1
    keys: tuple[str, ...] = ()
    select: Callable[[Any], Any] | None = None
    kind: Kind = "tensor"

    @classmethod
    def parse(cls, written: str) -> "Tap":
        """The tap that a string names; raises :class:`TapError` when it is malformed."""
        match = _WRITTEN.fullmatch(written)
        if match is None:
            raise TapError(
                f"{written!r} is no tap. Expected path[:input|:output][[calls]][/key], such as "
                "'backbone.fpn', 'layer4.2.relu:input', 'head.conv[*]' or 'backbone/p6'."
            )
        calls = match["calls"]
        return cls(
            path=match["path"],
            side="input" if match["side"] == "input" else "output",
            calls=-1 if calls is None else None if calls == "*" else int(calls),
            keys=tuple(match["keys"].split("/")[1:]),
        )

    def __str__(self) -> str:
        side = "" if self.side == "output" else f":{self.side}"
        calls = {None: "[*]", -1: ""}.get(self.calls, f"[{self.calls}]")
        return (self.path or "<model>") + side + calls + "".join(f"/{key}" for key in self.keys)

    def pick(self, value: Any) -> Any:
        """The part of a module's raw value that this tap reads."""
        for key in self.keys:
            value = _item(value, key, self)
        return value if self.select is None else self.select(value)


def _item(value: Any, key: str, tap: Tap) -> Any:
    if isinstance(value, Mapping):
        if key in value:
            return value[key]
        found = f"a mapping with the keys {', '.join(map(repr, value))}"
    elif isinstance(value, Sequence) and key.lstrip("-").isdigit():
        if -len(value) <= int(key) < len(value):
            return value[int(key)]
        found = f"a sequence of {len(value)} items"
    else:
        found = f"a {type(value).__name__}"
    raise TapError(f"Tap {tap}: no item {key!r}; its value is {found}.")


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The value with ``function`` applied to every tensor in its lists, tuples and mappings."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [map_tensors(item, function) for item in value]
        return type(value)._make(items) if hasattr(value, "_make") else type(value)(items)
    return value


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor in the lists, tuples and mappings of a value, in their order."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, note)
    return found


@dataclass(frozen=True)
class ChannelsFirst:
    """What a tap selects of a network whose channels come last, such as Swin: (B, C, H, W).

    Args:
        channels: The number of channels.
        last: Whether the network says that they come last; VOLO does not say it.
    """

    channels: int
    last: bool

    def __call__(self, value: Any) -> Any:
        """The map with its channels first; anything else as it is."""
        if not isinstance(value, Tensor) or value.dim() != 4:
            return value
        is_last = self.last or value.shape[1] != self.channels
        return value.permute(0, 3, 1, 2) if is_last and value.shape[3] == self.channels else value
