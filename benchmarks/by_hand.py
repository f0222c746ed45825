"""The methods with trained modules as a script of one's own has them, for two lists of maps.

Each is made of the maps of both models, and gives one loss for them. ``costs.py`` and
``step_ratio.py`` measure limbeck's methods beside them.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Maps = list[Tensor]
Targets = list[dict[str, Tensor]] | Tensor


class Compared(nn.Module):
    """Maps behind 1x1 adapters, where channels differ or adapters are wanted, level by level.

    Args:
        compare: The loss of one level, of the adapted map and the hint.
        maps: The student's maps.
        hints: The teacher's maps.
        adapted: Whether maps of equal channels have adapters, too.
    """

    def __init__(
        self,
        compare: Callable[[Tensor, Tensor], Tensor],
        maps: Maps,
        hints: Maps,
        adapted: bool = False,
    ) -> None:
        super().__init__()
        self.compare = compare
        pairs = [(s.shape[1], t.shape[1]) for s, t in zip(maps, hints, strict=True)]
        self.adapters = nn.ModuleList(
            nn.Conv2d(s, t, 1) if adapted or s != t else nn.Identity() for s, t in pairs
        )

    def forward(self, maps: Maps, hints: Maps, targets: Targets) -> Tensor:
        """The sum over levels."""
        return sum(
            self.compare(adapter(own), hint)
            for adapter, own, hint in zip(self.adapters, maps, hints, strict=True)
        )


def channel_divergence(own: Tensor, hint: Tensor) -> Tensor:
    """CWD."""
    q, p = (F.log_softmax(x.flatten(2), dim=2) for x in (own, hint))
    return F.kl_div(q, p, reduction="sum", log_target=True) / (len(q) * q.shape[1])


def cosine_distance(own: Tensor, hint: Tensor) -> Tensor:
    """FeatureCosine."""
    return 1 - F.cosine_similarity(own, hint, dim=1).mean()


def pearson_distance(own: Tensor, hint: Tensor) -> Tensor:
    """PKD."""

    def standardised(x: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(x, dim=(0, 2, 3), keepdim=True)
        return (x - mean) / (deviation + 1e-6)

    return F.mse_loss(standardised(own), standardised(hint)) / 2


class Generated(nn.Module):
    """Masked Generative Distillation.

    Args:
        maps: The student's maps.
        hints: The teacher's maps.
        kept: The share of the positions, or of the channels, that is kept.
        channels: Whether channels are masked.
    """

    def __init__(self, maps: Maps, hints: Maps, kept: float, channels: bool = False) -> None:
        super().__init__()
        self.kept, self.channels = kept, channels
        self.generation = nn.ModuleList(map(self._generation, maps, hints))

    @staticmethod
    def _generation(own: Tensor, hint: Tensor) -> nn.Sequential:
        s, t = own.shape[1], hint.shape[1]
        align = nn.Conv2d(s, t, 1) if s != t else nn.Identity()
        first, second = (nn.Conv2d(t, t, 3, padding=1) for _ in range(2))
        return nn.Sequential(align, first, nn.ReLU(inplace=True), second)

    def forward(self, maps: Maps, hints: Maps, targets: Targets) -> Tensor:
        """The sum over levels."""
        losses = []
        for network, own, hint in zip(self.generation, maps, hints, strict=True):
            aligned = network[0](own)
            masked = aligned[:, :, :1, :1] if self.channels else aligned[:, :1]
            mask = (torch.rand_like(masked) < self.kept).float()
            generated = network[1:](aligned * mask)
            losses.append(F.mse_loss(generated, hint, reduction="sum") / len(own))
        return sum(losses)


class Reviewed(nn.Module):
    """Knowledge review.

    Args:
        maps: The student's maps, the finest first.
        hints: The teacher's maps.
    """

    def __init__(self, maps: Maps, hints: Maps) -> None:
        super().__init__()
        mid = min(512, maps[-1].shape[1])
        sizes = [(s.shape[1], t.shape[1]) for s, t in zip(maps, hints, strict=True)]
        self.reduce = nn.ModuleList(_normed(s, mid, 1) for s, _ in sizes)
        self.attention = nn.ModuleList(nn.Conv2d(2 * mid, 2, 1) for _ in sizes[1:])
        self.expand = nn.ModuleList(_normed(mid, t, 3) for _, t in sizes)

    def forward(self, maps: Maps, hints: Maps, targets: Targets) -> Tensor:
        """The sum over levels."""
        losses, residual = [], None
        for i in reversed(range(len(maps))):
            fused = self.reduce[i](maps[i])
            if residual is not None:
                coarser = F.interpolate(residual, fused.shape[2:])
                shares = self.attention[i](torch.cat([fused, coarser], dim=1)).sigmoid()
                fused = fused * shares[:, :1] + coarser * shares[:, 1:]
            residual = fused
            losses.append(_hierarchical(self.expand[i](fused), hints[i]))
        return sum(losses)


def _normed(before: int, after: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after))


def _hierarchical(own: Tensor, hint: Tensor) -> Tensor:
    loss, share, total = F.mse_loss(own, hint), 1.0, 1.0
    for cells in (4, 2, 1):
        if cells < min(own.shape[2:]):
            share /= 2
            coarse = (F.adaptive_avg_pool2d(x, cells) for x in (own, hint))
            loss = loss + share * F.mse_loss(*coarse)
            total += share
    return loss / total


class Focal(nn.Module):
    """Focal and Global Distillation of maps of equal channels.

    Args:
        maps: The student's maps.
        hints: The teacher's maps.
        size: The height and width of the images, pixels.
    """

    def __init__(self, maps: Maps, hints: Maps, size: int) -> None:
        super().__init__()
        self.size = size
        self.contexts = nn.ModuleList(
            nn.ModuleList(_Context(hint.shape[1]) for _ in range(2)) for hint in hints
        )

    def forward(self, maps: Maps, hints: Maps, targets: Targets) -> Tensor:
        """The sum over levels and parts."""
        losses = []
        for (ours, theirs), own, hint in zip(self.contexts, maps, hints, strict=True):
            foreground, background = self._masks(hint, targets)
            spatial, channel = _attentions(hint)
            own_spatial, own_channel = _attentions(own)
            squares = ((own - hint).square() * channel[:, :, None, None]).sum(1) * spatial
            relation = (own + ours(own) - hint - theirs(hint)).square().sum()
            attention = (own_channel - channel).abs().sum() + (own_spatial - spatial).abs().sum()
            losses += [(squares * foreground).sum(), (squares * background).sum()]
            losses += [relation, attention]
        return sum(losses) / len(maps[0])

    def _masks(self, hint: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        rows, columns = hint.shape[2:]
        foreground = torch.zeros(len(hint), rows, columns)
        scale = torch.tensor([columns, rows, columns, rows]) / self.size
        for of_image, target in zip(foreground, targets, strict=True):
            scaled = target["boxes"] * scale
            corners = torch.cat([scaled[:, :2].floor(), scaled[:, 2:].ceil()], dim=1).int().tolist()
            for left, upper, right, lower in corners:
                cells = of_image[upper : lower + 1, left : right + 1]
                cells.clamp_(min=1 / ((lower + 1 - upper) * (right + 1 - left)))
        outside = (foreground == 0).float()
        return foreground, outside / outside.sum(dim=(1, 2), keepdim=True).clamp(min=1)


def _attentions(x: Tensor) -> tuple[Tensor, Tensor]:
    spatial, channel = x.abs().mean(1), x.abs().mean((2, 3))
    over = (spatial.flatten(1) / 0.5).softmax(1).view_as(spatial) * spatial[0].numel()
    return over, (channel / 0.5).softmax(1) * x.shape[1]


class _Context(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.position = nn.Conv2d(channels, 1, 1)
        hidden = channels // 2
        self.added = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            nn.Linear(hidden, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The same vector for all positions."""
        shares = self.position(x).flatten(2).softmax(2)
        return self.added((x.flatten(2) @ shares.transpose(1, 2)).squeeze(2))[:, :, None, None]
