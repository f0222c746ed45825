"""The head of Generalized Focal Loss (Li et al., NeurIPS 2020, arXiv:2006.04388)."""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from limbeck.models.detection.parts.distributions import BINS
from limbeck.models.precision import in_full_precision

GROUPS = 32  # of the towers' norms
_PRIOR = 0.01  # the score of every class at first


class GFLHead(nn.Module):
    """Two towers and two predictors for the maps of all levels, with outputs in full precision.

    Args:
        channels: The number of channels of the pyramid and of the towers.
        columns: The number of classes.
        depth: The number of convolutions in each of the two towers.
        levels: The number of levels, each of which has a scale of its own.

    Attributes:
        classification_head: The tower ``conv`` and the predictor ``cls_logits`` of the classes.
        regression_head: The tower ``conv``, the predictor ``bbox_reg`` and the ``scales`` of boxes.

    Raises:
        ValueError: The depth is below 1, or the channels do not make the groups of the norms.
    """

    def __init__(self, channels: int, columns: int, depth: int, levels: int) -> None:
        if depth < 1:
            raise ValueError(f"head_depth={depth}: expected 1 or more convolutions in a tower.")
        if channels % GROUPS:
            raise ValueError(
                f"fpn_channels={channels}: expected a multiple of {GROUPS}, since the norms in a "
                f"GFL's head have {GROUPS} groups."
            )
        super().__init__()
        self.classification_head = ClassificationHead(channels, columns, depth)
        self.regression_head = DistributionHead(channels, depth, levels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        bias = self.classification_head.cls_logits.bias
        assert bias is not None
        nn.init.constant_(bias, -math.log((1 - _PRIOR) / _PRIOR))

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """All levels' maps -> ``cls_logits`` (B, N, K), ``bbox_regression`` (B, N, 4 * BINS)."""
        outputs = {
            "cls_logits": self.classification_head(x),
            "bbox_regression": self.regression_head(x),
        }
        return {name: in_full_precision(output) for name, output in outputs.items()}


class ClassificationHead(nn.Module):
    """What predicts the classes of every cell.

    Args:
        channels: The number of channels of the maps.
        columns: The number of classes.
        depth: The number of convolutions of the tower.
    """

    def __init__(self, channels: int, columns: int, depth: int) -> None:
        super().__init__()
        self.conv = _tower(channels, depth)
        self.cls_logits = nn.Conv2d(channels, columns, 3, padding=1)

    def forward(self, x: list[Tensor]) -> Tensor:
        """All levels' maps (B, C, H, W) -> logits (B, N, K)."""
        return _rows([self.cls_logits(self.conv(level)) for level in x])


class DistributionHead(nn.Module):
    """What predicts the distributions of the sides of every cell's box.

    Args:
        channels: The number of channels of the maps.
        depth: The number of convolutions of the tower.
        levels: The number of levels.
    """

    def __init__(self, channels: int, depth: int, levels: int) -> None:
        super().__init__()
        self.conv = _tower(channels, depth)
        self.bbox_reg = nn.Conv2d(channels, 4 * BINS, 3, padding=1)
        self.scales = Scales(Scale() for _ in range(levels))

    def forward(self, x: list[Tensor]) -> Tensor:
        """All levels' maps (B, C, H, W) -> logits (B, N, 4 * BINS)."""
        return _rows([self.scales(self.bbox_reg(self.conv(level)), i) for i, level in enumerate(x)])


class GroupNorm(nn.GroupNorm):
    """torch's ``GroupNorm``, which also takes a group of one value: it becomes the bias.

    torch refuses it: one channel a group, on the one cell that P7 has of an image of 128 pixels.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The map (B, C, H, W), normalised."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class Scale(nn.Module):
    """A learnt factor, 1 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """The input times the factor."""
        return x * self.scale


class Scales(nn.ModuleList):
    """The factors of all levels, in one module: a tap reads what comes out of it at each level."""

    def forward(self, x: Tensor, level: int) -> Tensor:
        """The input times the factor of that level."""
        scaled: Tensor = self[level](x)
        return scaled


def _tower(channels: int, depth: int) -> nn.Sequential:
    norm = partial(GroupNorm, GROUPS)
    return nn.Sequential(
        *(Conv2dNormActivation(channels, channels, norm_layer=norm) for _ in range(depth))
    )


def _rows(maps: list[Tensor]) -> Tensor:
    """The maps (B, C, H, W) of all levels, cell by cell: (B, N, C)."""
    return torch.cat([level.flatten(2).mT for level in maps], dim=1)
