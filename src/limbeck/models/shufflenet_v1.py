"""ShuffleNet (Zhang et al., arXiv 1707.01083) with group convolutions of 3 groups, of any width.

It is as Fine-grained Feature Imitation's authors built it in TensorFlow for KITTI: there are three
groups of 4, 6 and 4 units; a map with even sides is padded below and on the right alone where it is
halved; and a unit that halves it keeps the pooled shortcut first, and does not rectify it again.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

GROUPS = 3
UNITS = (4, 6, 4)
WIDTHS = (240, 480, 960)  # channels of the groups at width 1


class Unit(nn.Module):
    """A unit of ShuffleNet (figure 2 of the paper): a 1x1, a shuffle, a depthwise 3x3 and a 1x1.

    Args:
        inputs: The number of channels of the input.
        outputs: The number of channels of the output.
        stride: The stride. With 2 the sides of the map are halved, and the pooled input stands
            before what the branch computes.
        grouped_first: The first 1x1 convolution has groups.
        shortcut: The input is added to what the branch computes, where the stride is 1.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        stride: int = 1,
        grouped_first: bool = True,
        shortcut: bool = True,
    ) -> None:
        super().__init__()
        own = outputs - inputs if stride == 2 else outputs
        middle = outputs // 4
        first = GROUPS if grouped_first else 1
        last = GROUPS if own % GROUPS == 0 else 1  # not under the widest network's stem of 16
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, middle, 1, groups=first, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            nn.ChannelShuffle(GROUPS),
            *([nn.ZeroPad2d((0, 1, 0, 1))] if stride == 2 else []),
            nn.Conv2d(middle, middle, 3, stride, padding=2 - stride, groups=middle, bias=False),
            nn.BatchNorm2d(middle),
            nn.Conv2d(middle, own, 1, groups=last, bias=False),
            nn.BatchNorm2d(own),
        )
        # A window that reaches beyond the map is divided by the cells that it has inside.
        pool = nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False)
        self.pool = pool if stride == 2 else None
        self.shortcut = shortcut
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the unit's map. With a stride of 2 the sides of the input have to be even.

        Args:
            x: The map (B, inputs, H, W).

        Returns:
            The map (B, outputs, H / stride, W / stride).
        """
        computed = self.branch(x)
        if self.pool is not None:
            return torch.cat([self.pool(x), self.relu(computed)], dim=1)
        out: Tensor = self.relu(x + computed if self.shortcut else computed)
        return out


def trunk(width: float, stem_channels: int | None = None, stem_stride: int = 1) -> nn.Sequential:
    """The network without its head: ``conv1``, ``pool1`` and ``group1`` to ``group3``.

    Args:
        width: The factor on the channels of all layers but the stem.
        stem_channels: The number of channels of the stem. Default (None): as published, 16 at a
            width of 1 and 24 otherwise.
        stem_stride: The stride of the stem, 1 or 2. The maps of the groups have 4, 8 and 16 times
            that stride.

    Returns:
        The layers, by their names, as one chain.

    Raises:
        ValueError: The number of channels of a group would be no multiple of 12 (a quarter of them,
            in 3 groups), or the first group would have no more channels than the stem.
    """
    stem = stem_channels or (16 if width == 1 else 24)
    widths = [round(channels * width) for channels in WIDTHS]
    if any(channels % (4 * GROUPS) for channels in widths) or widths[0] <= stem:
        raise ValueError(
            f"width={width}: the groups would have {widths} channels, the stem {stem}; expected "
            "multiples of 12, and more in the first group than in the stem. Take a multiple of "
            "0.05, such as 0.25, 0.5 or 1."
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if stem_stride == 2:
        layers["pad1"] = nn.ZeroPad2d((0, 1, 0, 1))
    layers["conv1"] = nn.Sequential(
        nn.Conv2d(3, stem, 3, stem_stride, padding=2 - stem_stride, bias=False),
        nn.BatchNorm2d(stem),
        nn.ReLU(inplace=True),
    )
    layers["pool1"] = nn.MaxPool2d(3, 2, ceil_mode=True)
    inputs = stem
    for number, (units, outputs) in enumerate(zip(UNITS, widths, strict=True), 1):
        first = Unit(inputs, outputs, stride=2, grouped_first=number > 1)
        rest = [Unit(outputs, outputs) for _ in range(units - 1)]
        layers[f"group{number}"] = nn.Sequential(first, *rest)
        inputs = outputs
    return nn.Sequential(layers)


class ShuffleNetV1(nn.Module):
    """The classifier whose training a ShuffleDet begins with. Its stem has a stride of 2.

    Args:
        num_classes: The number of outputs.
        width: The factor on the channels of all layers but the stem.
        stem_channels: The number of channels of the stem. Default (None): as published, see
            :func:`trunk`.

    Raises:
        ValueError: The width does not suit, see :func:`trunk`.
    """

    def __init__(
        self, num_classes: int, width: float = 1.0, stem_channels: int | None = None
    ) -> None:
        super().__init__()
        self.features = trunk(width, stem_channels, stem_stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(round(WIDTHS[-1] * width), num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """The logits: (B, 3, H, W), normalised, of sides that 32 divides -> (B, num_classes)."""
        logits: Tensor = self.fc(self.avgpool(self.features(images)).flatten(1))
        return logits


def initialise(network: nn.Module) -> None:
    """Initialise a network's convolutions by He et al. (arXiv 1502.01852), by their fan-out."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
