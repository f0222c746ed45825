"""ShuffleNet (Zhang et al., arXiv:1707.01083) with group convolutions of 3 groups, of any width.

As Fine-grained Feature Imitation's authors built it in TensorFlow for KITTI: three groups of 4, 6
and 4 units; maps of even sides are padded below and on the right alone where they are halved; and
a unit that halves them keeps the pooled shortcut first, and does not rectify it again.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

GROUPS = 3
UNITS = (4, 6, 4)
WIDTHS = (240, 480, 960)  # channels of the groups at width 1


class Unit(nn.Module):
    """A ShuffleNet unit (figure 2 of the paper): 1x1, shuffle, depthwise 3x3, 1x1.

    Args:
        inputs: channels.
        outputs: channels.
        stride: 2: half the sides, and the pooled input before what the branch computes.
        grouped_first: the first 1x1 convolution has groups.
        shortcut: of a stride of 1, the input is added.
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
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride); even sides with stride 2."""
        computed = self.branch(x)
        if self.pool is not None:
            return torch.cat([self.pool(x), self.relu(computed)], dim=1)
        out: Tensor = self.relu(x + computed if self.shortcut else computed)
        return out


def trunk(width: float, stem_channels: int | None = None, stem_stride: int = 1) -> nn.Sequential:
    """Stem and groups: ``conv1``, ``pool1``, ``group1`` to ``group3``.

    Args:
        width: factor on all channels but the stem's.
        stem_channels: none: 16 at width 1, 24 otherwise, as published.
        stem_stride: 1 or 2; the groups' maps have 4, 8 and 16 times as much.

    Raises:
        ValueError: a group's channels would be no multiples of 12 (a quarter, in 3 groups), or the
            first one's no more than the stem's.
    """
    stem = stem_channels or (16 if width == 1 else 24)
    widths = [round(channels * width) for channels in WIDTHS]
    if any(channels % (4 * GROUPS) for channels in widths) or widths[0] <= stem:
        raise ValueError(
            f"width={width}: the groups would have {widths} channels, the stem {stem}; expected "
            "multiples of 12, and more in the first group than in the stem. Take a multiple of "
            "0.05, such as 0.25, 0.5 or 1."
        )
    # A place for it either way: the names are the same whatever the stride.
    pad = nn.ZeroPad2d((0, 1, 0, 1)) if stem_stride == 2 else nn.Identity()
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"] = nn.Sequential(
        pad,
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
    """The classifier whose training a ShuffleDet begins with, with a stem of stride 2.

    Args:
        num_classes: of the output.
        width: factor on all channels but the stem's.
        stem_channels: none: as published, see :func:`trunk`.
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
        """Logits: (B, 3, H, W), normalised, of sides that are multiples of 32 -> (B, classes)."""
        logits: Tensor = self.fc(self.avgpool(self.features(images)).flatten(1))
        return logits


def initialise(network: nn.Module) -> None:
    """Convolutions by He et al. (arXiv:1502.01852), by what leaves them."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
