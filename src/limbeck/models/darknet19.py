"""Darknet-19 (Redmon and Farhadi, arXiv 1612.08242, table 6) of any width: the trunk of YOLOv2."""

from collections import OrderedDict
from itertools import pairwise

from torch import Tensor, nn

# Channels of the convolutions of each stage at width 1: 3x3, 1x1, 3x3, ... Each stage but the first
# begins by halving the map.
STAGES = (
    (32,),
    (64,),
    (128, 64, 128),
    (256, 128, 256),
    (512, 256, 512, 256, 512),
    (1024, 512, 1024, 512, 1024),
)


def convolution(inputs: int, outputs: int, kernel_size: int) -> nn.Sequential:
    """A convolution, a batch normalisation and a leaky ReLU of slope 0.1.

    Args:
        inputs: The number of channels of the input.
        outputs: The number of channels of the output.
        kernel_size: The side of the kernel, an odd number of pixels.

    Returns:
        The three layers. The map keeps its size.
    """
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1, inplace=True),
    )


def scaled(channels: int, width: float) -> int:
    """The number of channels that a layer has at a width.

    Args:
        channels: The number of channels at a width of 1.
        width: The factor on that number.

    Returns:
        Their product, rounded.

    Raises:
        ValueError: No channel is left.
    """
    if round(channels * width) < 1:
        raise ValueError(
            f"width={width}: nothing is left of {channels} channels. Expected a factor such as 1, "
            "0.25 or 0.15."
        )
    return round(channels * width)


def trunk(width: float) -> nn.Sequential:
    """The network without its head: 18 convolutions in ``stage1`` to ``stage6``, strides 1 to 32.

    Args:
        width: The factor on the channels of all layers, which are rounded.

    Returns:
        The stages, by their names, as one chain.

    Raises:
        ValueError: The width leaves a layer without channels.
    """
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = 3
    for number, channels in enumerate(STAGES, 1):
        widths = [inputs, *(scaled(each, width) for each in channels)]
        halved = [nn.MaxPool2d(2)] if number > 1 else []
        layers = [
            convolution(before, after, 1 if place % 2 else 3)
            for place, (before, after) in enumerate(pairwise(widths))
        ]
        stages[f"stage{number}"] = nn.Sequential(*halved, *layers)
        inputs = widths[-1]
    return nn.Sequential(stages)


class Darknet19(nn.Module):
    """The classifier whose training a YOLOv2 begins with.

    Args:
        num_classes: The number of outputs.
        width: The factor on the channels of all layers.

    Raises:
        ValueError: The width leaves a layer without channels.
    """

    def __init__(self, num_classes: int, width: float = 1.0) -> None:
        super().__init__()
        self.features = trunk(width)
        self.head = nn.Conv2d(scaled(STAGES[-1][-1], width), num_classes, 1)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """The logits: (B, 3, H, W) normalised images of sides of 32 or more -> (B, num_classes)."""
        logits: Tensor = self.head(self.features(images)).mean(dim=(2, 3))
        return logits


def initialise(network: nn.Module) -> None:
    """Initialise a network's convolutions by He et al. (arXiv 1502.01852), by their fan-in.

    This is what darknet does. Biases become 0.

    Args:
        network: The network, which is changed in place.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
