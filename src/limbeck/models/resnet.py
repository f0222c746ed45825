"""Residual networks of basic blocks, of any number of stages (He et al., arXiv 1512.03385).

torchvision's ``ResNet`` has four stages of 64 to 512 channels and a stem of stride 4. Light
students need less: this is the same network, block for block, with its depths, its widths, the
stride of its stem and the kind of its shortcuts as arguments. The networks for CIFAR-10 of section
4.2, such as ResNet-20, have three stages, a stem of stride 1 and padded shortcuts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, conv1x1

StemStride = Literal[1, 2, 4]
Shortcuts = Literal["projected", "padded"]

# Above every network of basic blocks that was published: ResNet-1202 has 200 blocks a stage.
_MOST_BLOCKS = 1000
_MOST_VALUES = 5e8


@dataclass(frozen=True)
class BasicBlocks:
    """The shape of a :class:`BasicBlockResNet`, which stands wherever a backbone's name may stand.

    Attributes:
        depths: The number of blocks in each stage.
        widths: The number of channels of each stage.
        stem_stride: The stride of the stem and of the first stage, in pixels: 1, 2 or 4. Each later
            stage doubles it.
        shortcuts: What a block adds whose input has another shape than its output: "projected", a
            1x1 convolution of the input (option B of the paper), or "padded", the input's every
            second pixel between channels of zeros (option A, its choice for CIFAR-10).

    Raises:
        ValueError: There are not as many depths as widths, one of them is below 1, or the stride or
            the shortcuts are others; widths fall where shortcuts are padded; or the network would
            be absurdly large.

    Example:
        >>> from limbeck.models import BasicBlocks, Classifier
        >>> resnet10 = BasicBlocks(depths=(1, 1, 1, 1), widths=(64, 128, 256, 512))
        >>> student = Classifier(resnet10, num_classes=3)
        >>> resnet20 = BasicBlocks((3, 3, 3), (16, 32, 64), stem_stride=1, shortcuts="padded")
        >>> teacher = Classifier(resnet20, num_classes=10)
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    stem_stride: StemStride = 4
    shortcuts: Shortcuts = "projected"

    def __post_init__(self) -> None:
        # YAML and JSON give lists; tuples make the shape hashable and comparable.
        object.__setattr__(self, "depths", tuple(self.depths))
        object.__setattr__(self, "widths", tuple(self.widths))
        if len(self.depths) != len(self.widths) or min(self.depths + self.widths, default=0) < 1:
            raise ValueError(
                f"depths={list(self.depths)} and widths={list(self.widths)}: expected as many "
                "depths as widths, each 1 or more. Give one of each for every stage."
            )
        values = sum(18 * d * w * w for d, w in zip(self.depths, self.widths, strict=True))
        if max(self.depths) > _MOST_BLOCKS or values > _MOST_VALUES:
            raise ValueError(
                f"depths={list(self.depths)} and widths={list(self.widths)}: about {values:.1g} "
                f"weights; expected at most {_MOST_BLOCKS} blocks a stage, and at most "
                f"{_MOST_VALUES:.0e} weights in all. Give a lighter network."
            )
        if self.stem_stride not in (1, 2, 4):
            raise ValueError(f"stem_stride={self.stem_stride}: expected 1, 2 or 4.")
        if self.shortcuts not in get_args(Shortcuts):
            raise ValueError(f"shortcuts={self.shortcuts!r}: expected 'projected' or 'padded'.")
        if self.shortcuts == "padded" and any(a > b for a, b in pairwise(self.widths)):
            raise ValueError(
                f"widths={list(self.widths)} with padded shortcuts: expected widths that do not "
                "fall, as channels are padded. Give such widths, or shortcuts='projected'."
            )


class BasicBlockResNet(nn.Module):
    """A ResNet of torchvision's ``BasicBlock``, whose parts have torchvision's names.

    These are ``conv1``, ``bn1``, ``relu``, ``maxpool`` (with a ``stem_stride`` of 4 alone),
    ``layer1`` to ``layerN``, ``avgpool`` and ``fc``. The stem is one 3x3 convolution of
    ``widths[0]`` channels, with a stride of 1 or 2.

    Args:
        depths: The number of blocks in each stage.
        widths: The number of channels of each stage.
        num_classes: The number of outputs.
        stem_stride: The stride of the first stage, in pixels: 1, 2, or 4 (a stride of 2, then a
            pooling). Stage k has a stride of ``stem_stride * 2**(k - 1)``.
        shortcuts: What a block adds whose input has another shape than its output, "projected" or
            "padded", see :class:`BasicBlocks`.

    Raises:
        ValueError: The arguments are no shape of a network, see :class:`BasicBlocks`.

    Example:
        >>> import torch
        >>> from limbeck.models import BasicBlockResNet
        >>> network = BasicBlockResNet(depths=(1, 1), widths=(16, 32), num_classes=10)
        >>> network(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        num_classes: int = 1000,
        stem_stride: StemStride = 4,
        shortcuts: Shortcuts = "projected",
    ) -> None:
        super().__init__()
        shape = BasicBlocks(tuple(depths), tuple(widths), stem_stride, shortcuts)
        channels = shape.widths[0]
        self.conv1 = nn.Conv2d(3, channels, 3, min(stem_stride, 2), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        if stem_stride == 4:
            self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.stages = tuple(f"layer{k}" for k in range(1, len(shape.depths) + 1))
        for name, depth, width in zip(self.stages, shape.depths, shape.widths, strict=True):
            stride = 1 if name == "layer1" else 2
            self.add_module(name, _stage(channels, width, depth, stride, shortcuts))
            channels = width
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """The logits of the classes: (B, 3, H, W) normalised images -> (B, num_classes)."""
        x = self.relu(self.bn1(self.conv1(images)))
        if hasattr(self, "maxpool"):
            x = self.maxpool(x)
        for name in self.stages:
            x = self.get_submodule(name)(x)
        x = torch.flatten(self.avgpool(x), 1)
        logits: Tensor = self.fc(x)
        return logits


class PaddedShortcut(nn.Module):
    """Every second pixel of a map, between channels of zeros (He et al., section 3.3, option A).

    Args:
        channels: The number of channels of the map.
        width: The number of channels of the result; half of the new ones come first.
        stride: The distance of the pixels.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (width - channels) // 2
        self.after = width - channels - self.before

    def forward(self, maps: Tensor) -> Tensor:
        """Pad a map: (B, channels, H, W) -> (B, width, H / stride, W / stride), rounded up."""
        kept = maps[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, self.before, self.after))


def _stage(
    channels: int, width: int, depth: int, stride: int, shortcuts: Shortcuts
) -> nn.Sequential:
    """A stage of so many blocks of one width, whose first block has the stride."""
    shortcut: nn.Module | None = None
    if stride != 1 or channels != width:
        shortcut = PaddedShortcut(channels, width, stride)
    if shortcut is not None and shortcuts == "projected":
        shortcut = nn.Sequential(conv1x1(channels, width, stride), nn.BatchNorm2d(width))
    first = BasicBlock(channels, width, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(width, width) for _ in range(depth - 1)))
