"""What the batch normalisations of a pretrained network do while it is trained further."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm, freeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

Norm = Literal["frozen", "affine", "trained", "synchronised"]
LastNorm = Literal["group", "synchronised"]

_GROUPS = 32


class AffineBatchNorm2d(FrozenBatchNorm2d):  # type: ignore[misc]  # torchvision is untyped
    """Batch normalisation with fixed running statistics and a trained weight and bias.

    mmdetection's ``norm_eval`` with ``requires_grad``. The statistics are fixed by construction,
    whatever ``.train()`` or a conversion to ``SyncBatchNorm`` does.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__(num_features, eps)
        del self.weight, self.bias
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        mean, var = self.running_mean, self.running_var
        return F.batch_norm(x, mean, var, self.weight, self.bias, training=False, eps=self.eps)


class GroupNorm(nn.GroupNorm):
    """Group normalisation that takes over weight and bias of a batch normalisation's state dict."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *others)


def convert_norms(module: nn.Module, norm: Norm) -> nn.Module:
    """Give every batch normalisation in ``module`` the behaviour ``norm``, in place.

    State dicts load strictly between all four (``num_batches_tracked`` comes and goes).

    Args:
        module: any network; normalisations that are no ``BatchNorm2d`` are left as they are.
        norm: ``frozen``: nothing changes, torchvision's ``FrozenBatchNorm2d``; ``affine``: fixed
            statistics, trained weight and bias; ``trained``: ``BatchNorm2d``; ``synchronised``:
            ``SyncBatchNorm``, statistics over all devices (which torch refuses to train on CPU
            tensors when several processes run).

    Returns:
        ``module``, or what it became where it is a batch normalisation itself.

    Raises:
        ValueError: Another ``norm``, or ``affine`` for timm's fused normalisation and activation.
    """
    if norm not in get_args(Norm):
        raise ValueError(f"norm={norm!r}: expected one of {', '.join(get_args(Norm))}.")
    if norm == "frozen":
        return cast(nn.Module, freeze_batch_norm_2d(module))  # type: ignore[no-untyped-call]
    if norm == "synchronised":
        return cast(nn.Module, convert_sync_batchnorm(module))  # type: ignore[no-untyped-call]
    return _affine(module) if norm == "affine" else module


def _affine(module: nn.Module) -> nn.Module:
    if isinstance(module, BatchNormAct2d):
        raise ValueError(
            "norm='affine' is not possible for a network of timm's BatchNormAct2d. "
            "Use norm='frozen' or norm='trained'."
        )
    for name, child in module.named_children():
        setattr(module, name, _affine(child))
    return _like(module, AffineBatchNorm2d) if isinstance(module, nn.BatchNorm2d) else module


def replace_norms(module: nn.Module, norm: LastNorm) -> nn.Module:
    """Replace every batch normalisation in ``module``, frozen or not, by a trained ``norm``.

    Weight and bias are kept; state dicts with batch normalisations in these places still load.

    Args:
        module: any network.
        norm: ``group``: ``GroupNorm`` of 32 groups; ``synchronised``: ``SyncBatchNorm``.

    Returns:
        ``module``, or what it became where it is a batch normalisation itself.

    Raises:
        ValueError: Another ``norm``, or ``group`` where channels are no multiple of 32.
    """
    if norm not in get_args(LastNorm):
        raise ValueError(f"norm={norm!r}: expected one of {', '.join(get_args(LastNorm))}.")
    for name, child in module.named_children():
        setattr(module, name, replace_norms(child, norm))
    if not isinstance(module, nn.modules.batchnorm._BatchNorm | FrozenBatchNorm2d):
        return module
    if norm == "synchronised":
        return _like(module, nn.SyncBatchNorm)
    if len(module.weight) % _GROUPS:
        raise ValueError(
            f"'group': {len(module.weight)} channels are no multiple of a group norm's {_GROUPS} "
            "groups. Use 'synchronised', or a network of other widths."
        )
    return _like(module, partial(GroupNorm, _GROUPS))


def _like(norm: nn.Module, make: Callable[[int, float], nn.Module]) -> nn.Module:
    """The norm that ``make(channels, eps)`` makes, with what ``norm`` has learnt."""
    made = make(len(cast(Tensor, norm.weight)), cast(float, norm.eps))
    made.load_state_dict(norm.state_dict())
    return made
