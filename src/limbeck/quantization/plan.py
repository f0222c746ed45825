"""What of a network is quantized: seen by one pass of it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.layers.norm_act import BatchNormAct2d, FrozenBatchNormAct2d, SyncBatchNormAct
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.ops import FrozenBatchNorm2d

LAYERS = (nn.Conv2d, nn.Linear)
NORMS = (
    nn.BatchNorm2d,
    nn.SyncBatchNorm,
    FrozenBatchNorm2d,
    BatchNormAct2d,
    FrozenBatchNormAct2d,
    SyncBatchNormAct,
)
# A runtime computes these at one with the layer before, as they only cut off the range.
_CUTS = {"relu", "relu_", "relu6", "hardtanh", "hardtanh_", "clamp_min", "clamp_min_"}


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
    folded = {n: c for n, c in watch.folded().items() if n not in kept and c not in kept}
    layers = watch.layers(folded, kept)
    if not layers:
        raise ValueError(
            f"no layer of the {type(model).__name__} is left to quantize; expected convolutions or "
            "linear layers beside what stays floats. Keep fewer."
        )
    return Quantization(layers, folded)


class _Watch(TorchFunctionMode):
    """Follows the outputs of layers to what takes them first."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []
        self.taken: dict[str, set[str]] = {}  # by module: the functions and modules after it
        self.sources: dict[str, set[str | None]] = {}  # by module: the modules before it
        self._whose: dict[int, str] = {}
        self._alive: list[Tensor] = []  # the id of a tensor that is gone is given to another one
        self._inside = 0

    def look(self, model: nn.Module, run: Callable[[], Any]) -> None:
        """Watch one run of a model."""
        handles = []
        for path, module in model.named_modules():
            if isinstance(module, LAYERS + NORMS):
                handles.append(module.register_forward_pre_hook(self._before(path)))
                handles.append(module.register_forward_hook(self._after(path)))
        try:
            with torch.no_grad(), self:
                run()
        finally:
            for handle in handles:
                handle.remove()

    def layers(self, folded: Mapping[str, str], kept: Collection[str]) -> dict[str, bool]:
        """The layers that ran and are not kept, and whether their outputs are rounded, too.

        They are where anything takes them but a cut, or a layer that rounds its own input.
        """
        norms = {convolution: norm for norm, convolution in folded.items()}
        ran = [path for path in dict.fromkeys(self.paths) if path not in kept]
        later = _CUTS | set(ran)
        found = {}
        for path in ran:
            taken = self.taken.get(norms.get(path, path), set())
            found[path] = not taken or not taken <= later
        return found

    def folded(self) -> dict[str, str]:
        """The convolution before each normalisation that takes its whole output alone."""
        found = {}
        for norm, sources in self.sources.items():
            (path, *others) = sources
            alone = path in self.paths and not others and norm not in self.paths
            if path is not None and alone and self.taken.get(path) == {norm}:
                found[norm] = path
        return found

    def _before(self, path: str) -> Callable[..., None]:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            source = self._whose.get(id(inputs[0]))
            self.sources.setdefault(path, set()).add(source)
            if source is not None:
                self.taken.setdefault(source, set()).add(path)
            self._inside += 1

        return note

    def _after(self, path: str) -> Callable[..., None]:
        def note(module: nn.Module, _: Any, output: Tensor) -> None:
            self._inside -= 1
            if isinstance(module, LAYERS):
                self.paths.append(path)
            act = getattr(module, "act", None)
            if act is None or isinstance(act, nn.Identity):
                self._follow(output, path)
            else:
                cuts = isinstance(act, nn.ReLU | nn.ReLU6 | nn.Hardtanh)
                self.taken.setdefault(path, set()).add("relu" if cuts else type(act).__name__)

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


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [t for v in values for t in _tensors(v)] if isinstance(values, list | tuple) else []
