"""The simple feature pyramid of plain networks (ViTDet; Li et al., arXiv 2203.16527, section 3)."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from limbeck.models.detection.parts.timm_trunks import scaled_channels


class SimplePyramid(nn.Module):
    """Maps of several strides from one map, each by itself: there is no top-down way.

    A finer map is made by deconvolutions of stride 2, each of which halves the channels, with a
    layer normalisation and a GELU between two of them; a coarser one by max pooling. Then come a
    convolution of 1x1 and one of 3x3, each with a layer normalisation over the channels.

    Args:
        only: The level of the given map. Level k has a stride of 2**k pixels.
        levels: The levels of the pyramid, finest first.
        inputs: The channels of the given map.
        channels: The channels of every level.
        extra: The block that adds levels, which takes the scaled maps for the trunk's. None: there
            are no more levels.

    Attributes:
        scales: What brings the given map to each level.
        layer_blocks: The convolutions of each level.
        extra_blocks: The block that adds levels, or None.
    """

    def __init__(
        self,
        only: int,
        levels: Sequence[int],
        inputs: int,
        channels: int,
        extra: ExtraFPNBlock | None,
    ) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_scale(inputs, only - level) for level in levels)
        widths = (scaled_channels(inputs, only - level) for level in levels)
        self.layer_blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, channels, 1, bias=False),
                LayerNorm2d(channels),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                LayerNorm2d(channels),
            )
            for width in widths
        )
        self.extra_blocks = extra

    def forward(self, maps: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
        """One map (B, C, h, w) -> the maps of the pyramid, finest first, as "0", "1", ..."""
        (only,) = maps.values()
        scaled = [scale(only) for scale in self.scales]
        levels = [block(each) for block, each in zip(self.layer_blocks, scaled, strict=True)]
        names = [str(place) for place in range(len(levels))]
        if self.extra_blocks is not None:
            levels, names = self.extra_blocks(levels, scaled, names)
        return OrderedDict(zip(names, levels, strict=True))


def _scale(channels: int, doublings: int) -> nn.Module:
    """What doubles a map's sides so often, or halves them where the number is negative."""
    if doublings <= 0:
        stride = 2**-doublings
        return nn.MaxPool2d(stride) if stride > 1 else nn.Identity()
    layers: list[nn.Module] = []
    for step in range(doublings):
        inputs = scaled_channels(channels, step)
        if step:
            layers += [LayerNorm2d(inputs), nn.GELU()]
        layers.append(nn.ConvTranspose2d(inputs, scaled_channels(channels, step + 1), 2, 2))
    return nn.Sequential(*layers)
