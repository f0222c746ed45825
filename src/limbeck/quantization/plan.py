"""What of a network is quantized: seen by one pass of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.layers.norm_act import BatchNormAct2d, FrozenBatchNormAct2d
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.ops import FrozenBatchNorm2d

LAYERS = (nn.Conv2d, nn.Linear)
NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d, BatchNormAct2d, FrozenBatchNormAct2d)
# A runtime computes these at one with the layer before, as they only cut off the range.
_CUTS = {"relu", "relu_", "relu6", "hardtanh", "hardtanh_", "clamp_min", "clamp_min_"}
_LAYERS = {"conv2d", "linear"}  # they round their inputs themselves


@dataclass(frozen=True)
class Quantization:
    """What of a network is quantized, by the paths of its modules.

    Attributes:
        layers: The layers whose weights and inputs are rounded, and for each whether its output is
            rounded, too. It is not where an activation such as ReLU takes it, whose own output is
            the rounded input of the next layer.
        folded: The convolution into which each batch normalisation is folded, by the path of the
            latter.
    """

    layers: Mapping[str, bool]
    folded: Mapping[str, str] = field(default_factory=dict)


def planned(model: nn.Module, run: Callable[[], Any], keep: Sequence[str] = ()) -> Quantization:
    """Decide what of a network is quantized: every convolution and linear layer that is run.

    A batch normalisation is folded into the convolution before it where it is the only one that
    takes its output, as runtimes do. So a quantized network has fixed statistics.

    Args:
        model: The network. It is not changed.
        run: Runs it once, in evaluation mode.
        keep: The paths of modules that stay floats, with all that is in them.

    Returns:
        What is quantized.

    Raises:
        ValueError: ``keep`` names no module, or nothing is left to quantize.
    """
    modules = dict(model.named_modules())
    unknown = [name for name in keep if name not in modules]
    if unknown:
        raise ValueError(
            f"keep has {unknown[0]!r}, which is no module of the {type(model).__name__}; expected "
            "paths as `limbeck inspect` lists them. Correct it."
        )
    watch = _Watch()
    watch.look(model, run)
    kept = {name for name in modules for k in keep if name == k or name.startswith(f"{k}.")}
    layers = {name: out for name, out in watch.layers().items() if name not in kept}
    if not layers:
        raise ValueError(
            f"no layer of the {type(model).__name__} is left to quantize; expected convolutions or "
            "linear layers beside what stays floats. Keep fewer."
        )
    return Quantization(layers, {n: c for n, c in watch.folded().items() if c in layers})


class _Watch(TorchFunctionMode):
    """Follows the outputs of layers to what takes them first."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []
        self.taken: dict[str, set[str]] = {}  # by layer: the functions and normalisations after it
        self.norms: dict[str, set[str | None]] = {}  # by normalisation: the layers before it
        self._whose: dict[int, str] = {}
        self._alive: list[Tensor] = []  # the id of a tensor that is gone is given to another one
        self._inside = 0

    def look(self, model: nn.Module, run: Callable[[], Any]) -> None:
        """Watch one run of a model."""
        handles = []
        for path, module in model.named_modules():
            if isinstance(module, LAYERS):
                handles.append(module.register_forward_hook(self._layer(path)))
            elif isinstance(module, NORMS):
                handles.append(module.register_forward_pre_hook(self._before_norm(path)))
                handles.append(module.register_forward_hook(self._after_norm(path)))
        try:
            with torch.no_grad(), self:
                run()
        finally:
            for handle in handles:
                handle.remove()

    def layers(self) -> dict[str, bool]:
        """The layers that ran, and whether anything but a cut or a layer takes their outputs."""
        return {path: not _rounded(self._ends(path)) for path in dict.fromkeys(self.paths)}

    def folded(self) -> dict[str, str]:
        """The convolution before each normalisation that takes its whole output alone."""
        found = {}
        for norm, before in self.norms.items():
            (path, *others) = before
            if path is not None and not others and self.taken.get(path) == {norm}:
                found[norm] = path
        return found

    def _ends(self, path: str) -> set[str]:
        taken = self.taken.get(path, set())
        folded = [norm for norm, before in self.folded().items() if before == path]
        return self.taken.get(folded[0], set()) if folded else taken

    def _layer(self, path: str) -> Callable[..., None]:
        def note(_: nn.Module, __: Any, output: Tensor) -> None:
            self.paths.append(path)
            self._follow(output, path)

        return note

    def _before_norm(self, path: str) -> Callable[..., None]:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            before = self._whose.get(id(inputs[0]))
            self.norms.setdefault(path, set()).add(before)
            if before is not None:
                self.taken.setdefault(before, set()).add(path)
            self._inside += 1

        return note

    def _after_norm(self, path: str) -> Callable[..., None]:
        def note(norm: nn.Module, _: Any, output: Tensor) -> None:
            self._inside -= 1
            if isinstance(norm, BatchNormAct2d | FrozenBatchNormAct2d) and _cuts(norm.act):
                self.taken.setdefault(path, set()).add("relu")
            else:
                self._follow(output, path)

        return note

    def _follow(self, output: Tensor, path: str) -> None:
        self._whose[id(output)] = path
        self._alive.append(output)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note who takes the output of a layer; what happens in a normalisation is its own."""
        given = _tensors([*args, *(kwargs or {}).values()])
        result = func(*args, **(kwargs or {}))
        if self._inside or not _tensors([result]):  # a size is not the values
            return result
        for path in (self._whose.get(id(tensor)) for tensor in given):
            if path is not None:
                self.taken.setdefault(path, set()).add(func.__name__)
        if func.__name__ in _CUTS:
            self._whose.pop(id(result), None)  # it was cut in place
        return result


def _rounded(taken: set[str]) -> bool:
    """Whether all that takes an output gives it to a layer that rounds its input."""
    return bool(taken) and taken <= _CUTS | _LAYERS


def _cuts(activation: nn.Module) -> bool:
    return isinstance(activation, nn.ReLU | nn.ReLU6 | nn.Hardtanh)


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [t for v in values for t in _tensors(v)] if isinstance(values, list | tuple) else []
