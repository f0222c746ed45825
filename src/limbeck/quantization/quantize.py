"""Quantizing a network in place: its normalisations are folded, its layers get their rounding."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.nn.utils.parametrize import register_parametrization

from limbeck.quantization.fake_quantize import FakeQuantize
from limbeck.quantization.plan import LAYERS, NORMS, Quantization


def quantize(model: nn.Module, quantization: Quantization) -> None:
    """Quantize a network in place; its ranges are those of no values yet.

    Modules keep their paths. Batch normalisations that are folded become ``nn.Identity``, or the
    activation that they end with. The weight of a quantized layer becomes
    ``parametrizations.weight.original``, as torch's parametrizations name it.

    Args:
        model: The network. Its attribute ``quantization`` then has what was done.
        quantization: What to quantize.

    Raises:
        ValueError: The network has no such modules, or they are of other kinds.
    """
    for norm, convolution in quantization.folded.items():
        _fold(model, norm, convolution)
    for path, rounds_output in quantization.layers.items():
        layer: Any = _module(model, path, LAYERS)
        layer.input_quantizer = FakeQuantize()
        layer.register_forward_pre_hook(_round_input)
        if rounds_output:
            layer.output_quantizer = FakeQuantize()
            layer.register_forward_hook(_round_output)
        register_parametrization(layer, "weight", FakeQuantize(len(layer.weight)))
    model.register_forward_hook(_settle_ranges)
    model.quantization = quantization  # type: ignore[assignment]  # a plain attribute
    model.train(model.training)


@contextmanager
def in_floats(model: nn.Module, paths: Collection[str]) -> Iterator[None]:
    """Within, modules of a quantized network compute in floats.

    Args:
        model: The quantized network.
        paths: The paths of the modules.
    """
    modules = [m for path in paths for m in model.get_submodule(path).modules()]
    quantizers = [each for each in modules if isinstance(each, FakeQuantize)]
    for each in quantizers:
        each.rounds = False
    try:
        yield
    finally:
        for each in quantizers:
            each.rounds = True


def _settle_ranges(model: nn.Module, *_: Any) -> None:
    for module in model.modules():
        if isinstance(module, FakeQuantize) and module.training and module.channels is None:
            module.settle()


def _round_input(layer: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return layer.input_quantizer(inputs[0]), *inputs[1:]


def _round_output(layer: Any, _: Any, output: Tensor) -> Tensor:
    rounded: Tensor = layer.output_quantizer(output)
    return rounded


def _fold(model: nn.Module, path: str, into: str) -> None:
    """Fold a batch normalisation into the convolution before it."""
    norm: Any = _module(model, path, NORMS)
    convolution: Any = _module(model, into, (nn.Conv2d,))
    trains = convolution.weight.requires_grad
    with torch.no_grad():
        weight, bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
    convolution.weight = nn.Parameter(weight.detach(), requires_grad=trains)
    convolution.bias = nn.Parameter(bias.detach(), requires_grad=trains)
    left = nn.Sequential(norm.drop, norm.act) if hasattr(norm, "act") else nn.Identity()
    model.set_submodule(path, left)


def _module(model: nn.Module, path: str, kinds: tuple[type, ...]) -> nn.Module:
    module: nn.Module | None = dict(model.named_modules()).get(path)
    if module is None or not isinstance(module, kinds):
        found = "no module" if module is None else f"a {type(module).__name__}"
        raise ValueError(
            f"quantization has {path!r}, which in {type(model).__name__} is {found}; expected "
            f"{' or '.join(kind.__name__ for kind in kinds)}. Quantize the student anew."
        )
    return module
