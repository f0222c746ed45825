"""The memory layout and the compilation of the networks of a pair."""

from typing import Any

import torch
from torch import Tensor, nn

from limbeck.distillation import Distillation
from limbeck.models import FeatureTeacher
from limbeck.taps import Stop

VECTOR = 16  # channels that oneDNN takes at a time, at most (AVX-512; 8 with AVX2)


def channels_last(pair: Distillation) -> None:
    """Keep the weights of every convolution in channels_last layout.

    Maps follow from the first convolution on, as torch goes by its weights; images need no
    conversion.

    Args:
        pair: The pair, which is changed in place.
    """
    pair.to(memory_format=torch.channels_last)
    _spare_onednn(pair)


def compile_trunks(pair: Distillation) -> None:
    """Compile what is a plain chain of tensors: the backbone of a detector, or a whole network.

    A teacher that stops inside its trunk is compiled as far as it runs, in one graph. The losses
    run eagerly: their weights go by the number of the step, for which a graph of the whole pair
    would be compiled anew in every step.

    Args:
        pair: The pair, which is changed in place.

    Example:
        >>> import torch
        >>> from torchvision.models.resnet import BasicBlock, ResNet
        >>> from limbeck import Distillation, methods
        >>> from limbeck.training import compile_trunks
        >>> student, teacher = (ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4) for _ in range(2))
        >>> pair = Distillation(student, teacher, [methods.KD()])
        >>> compile_trunks(pair)
    """
    _spare_onednn(pair)  # on a CPU, the compiler takes channels_last by itself
    for model in pair.models:
        network = model.model if isinstance(model, FeatureTeacher) else model
        _compile(getattr(network, "backbone", network))


def _compile(trunk: nn.Module) -> None:
    """Compile as ``trunk.compile()``, which a stop raised through it would break into pieces."""

    def run(*args: Any, **kwargs: Any) -> tuple[Any, bool]:
        try:
            return trunk._call_impl(*args, **kwargs), False  # type: ignore[no-untyped-call]
        except Stop:
            return None, True

    # Recompilations are limited for each code object: student and teacher get one each.
    run.__code__ = run.__code__.replace()
    compiled = torch.compile(run)

    def call(*args: Any, **kwargs: Any) -> Any:
        output, stopped = compiled(*args, **kwargs)
        if stopped:
            raise Stop
        return output

    trunk._compiled_call_impl = call  # where ``trunk.compile()`` puts it too


def _spare_onednn(pair: Distillation) -> None:
    """Keep strided 1x1 convolutions of few channels from a kernel that corrupts memory.

    On a CPU and in channels_last, the backward pass of one with less than 16 input channels, and
    a stride that divides the map's size, writes past its workspace: a crash, or wrong gradients
    (torch 2.14; https://github.com/uxlfoundation/oneDNN/issues/6035). Without the rows and columns
    that it does not read, the stride does not divide: the same result from another kernel.
    """
    for module in pair.modules():
        spared = _cut_unread in module._forward_pre_hooks.values()
        if isinstance(module, nn.Conv2d) and _overflows(module) and not spared:
            module.register_forward_pre_hook(_cut_unread)


def _overflows(convolution: nn.Conv2d) -> bool:
    return (
        convolution.in_channels < VECTOR
        and convolution.groups == 1
        and convolution.kernel_size == (1, 1)
        and convolution.stride != (1, 1)
        and convolution.padding in ((0, 0), "valid")
    )


def _cut_unread(convolution: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Cut off the rows and columns after the last that a strided 1x1 convolution reads."""
    assert isinstance(convolution, nn.Conv2d)
    images, *others = args  # (B, C, H, W)
    if images.device.type != "cpu":
        return args
    height, width = (
        size - (size - 1) % stride
        for size, stride in zip(images.shape[-2:], convolution.stride, strict=True)
    )
    return images[..., :height, :width], *others
