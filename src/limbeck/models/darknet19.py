"""Darknet-19 (Redmon and Farhadi, arXiv:1612.08242, table 6) of any width: YOLOv2's trunk."""

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
    """Convolution, batch normalisation and leaky ReLU of slope 0.1; the map keeps its size."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1, inplace=True),
    )


def scaled(channels: int, width: float) -> int:
    """So many channels at that width.

    Raises:
        ValueError: none is left.
    """
    if round(channels * width) < 1:
        raise ValueError(
            f"width={width}: nothing is left of {channels} channels. Expected a factor such as 1, "
            "0.25 or 0.15."
        )
    return round(channels * width)


def trunk(width: float) -> nn.Sequential:
    """The stages ``stage1`` (stride 1) to ``stage6`` (stride 32): 18 convolutions.

    Args:
        width: factor on all channels, which are rounded.

    Raises:
        ValueError: ``width`` leaves a layer without channels.
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
        num_classes: of the output.
        width: factor on all channels.
    """

    def __init__(self, num_classes: int, width: float = 1.0) -> None:
        super().__init__()
        self.features = trunk(width)
        self.head = nn.Conv2d(scaled(STAGES[-1][-1], width), num_classes, 1)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits: (B, 3, H, W), normalised, of sides of 32 or more -> (B, classes)."""
        logits: Tensor = self.head(self.features(images)).mean(dim=(2, 3))
        return logits


def initialise(network: nn.Module) -> None:
    """Convolutions by He et al. (arXiv:1502.01852), by what enters them, as darknet does."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
