"""The landmarks ``C2.pre`` to ``C5.pre``: what goes into the activation that ends a stage."""

import re

from timm.layers import norm as timm_norms
from torch import nn
from torchvision.models import shufflenetv2
from torchvision.ops import FrozenBatchNorm2d

from limbeck.tap import Tap

# Which of them timm has depends on its version.
_RMS_NORMS = tuple(each for name, each in vars(timm_norms).items() if name.startswith("RmsNorm"))
NORMS = (nn.modules.batchnorm._NormBase, FrozenBatchNorm2d, nn.GroupNorm, nn.LayerNorm)
NORMS = (*NORMS, nn.RMSNorm, *_RMS_NORMS)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.SiLU, nn.Mish, nn.Hardswish, nn.GELU)
# A fire module's two parallel "expand..._activation" are not what ends it.
_LAST_ACTIVATION = re.compile(r"(relu|act|activation)\d?")
# Blocks of torchvision and timm that end in no activation.
_LINEAR_BLOCKS = {"InvertedResidual", "MBConv", "FusedMBConv", "EdgeResidual", "CNBlock"}
_LINEAR_BLOCKS |= {"DepthwiseSeparableConv", "UniversalInvertedResidual"}


def pre_activation(path: str, stage: nn.Module) -> Tap | None:
    """The value before the activation that ends a stage.

    Args:
        path: The path of the stage in its model.
        stage: The stage.

    Returns:
        The tap; None where structure does not tell.
    """
    inside, block = path, stage
    while isinstance(block, nn.Sequential) and len(block):
        name, block = list(block.named_children())[-1]
        inside = f"{inside}.{name}"
    if isinstance(block, ACTIVATIONS):
        return Tap(inside, "input")
    # A residual block calls its only, or its last, activation after the sum.
    ends = [
        name
        for name, child in block.named_children()
        if isinstance(child, ACTIVATIONS) and _LAST_ACTIVATION.fullmatch(name)
    ]
    # timm's norms hold the activation that follows them.
    norms = [(name, child) for name, child in block.named_children() if isinstance(child, NORMS)]
    for name, norm in norms[-1:]:
        ends += [f"{name}.{n}" for n, c in norm.named_children() if isinstance(c, ACTIVATIONS)]
    if ends:
        return Tap(f"{inside}.{ends[-1]}", "input")
    if isinstance(block, shufflenetv2.InvertedResidual):  # torchvision's: each branch has its own
        return None
    linear = isinstance(block, (nn.Conv2d, *NORMS)) or type(block).__name__ in _LINEAR_BLOCKS
    return Tap(path) if linear else None
