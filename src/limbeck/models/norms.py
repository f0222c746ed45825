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
    """Batch normalisation with fixed running statistics, and a weight and a bias that are trained.

    This is what mmdetection's ``norm_eval`` does together with ``requires_grad``. The statistics
    are fixed by construction, whatever ``.train()`` or a conversion to ``SyncBatchNorm`` does.

    Args:
        num_features: The number of channels.
        eps: What is added to the variance, so that nothing is divided by 0.

    Attributes:
        weight: The factor of each channel, (C,), a parameter.
        bias: The shift of each channel, (C,), a parameter.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__(num_features, eps)
        del self.weight, self.bias
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a map (B, C, H, W) by the fixed statistics -> (B, C, H, W)."""
        mean, var = self.running_mean, self.running_var
        return F.batch_norm(x, mean, var, self.weight, self.bias, training=False, eps=self.eps)


class GroupNorm(nn.GroupNorm):
    """Group normalisation that takes the weight and bias of a batch normalisation's state dict."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *others)


def convert_norms(module: nn.Module, norm: Norm) -> nn.Module:
    """Give every batch normalisation in a network one of four behaviours, in place.

    ===================  ========================  ================  =====================
    ``norm``             the statistics            weight and bias   the class
    ===================  ========================  ================  =====================
    ``frozen``           are fixed                 are fixed         ``FrozenBatchNorm2d``
    ``affine``           are fixed                 are trained       ``AffineBatchNorm2d``
    ``trained``          are those of each batch   are trained       ``BatchNorm2d``
    ``synchronised``     are those of the batches  are trained       ``SyncBatchNorm``
                         of all devices
    ===================  ========================  ================  =====================

    State dicts load strictly between all four (``num_batches_tracked`` comes and goes). torch
    refuses to train a ``SyncBatchNorm`` on CPU tensors when several processes run.

    Args:
        module: Any network. Normalisations that are no ``BatchNorm2d`` are left as they are.
        norm: The behaviour, as above.

    Returns:
        The network, or what it became where it is a batch normalisation itself.

    Raises:
        ValueError: There is no such behaviour, or it is ``affine`` for timm's fused normalisation
            and activation.
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
    """Replace every batch normalisation in a network, frozen or not, by one that is trained.

    The weights and biases are kept. State dicts that have batch normalisations in these places
    still load.

    Args:
        module: Any network.
        norm: The replacement: ``group`` is a ``GroupNorm`` of 32 groups (Wu and He,
            arXiv 1803.08494), ``synchronised`` is a ``SyncBatchNorm``.

    Returns:
        The network, or what it became where it is a batch normalisation itself.

    Raises:
        ValueError: There is no such replacement, or it is ``group`` and the number of channels is
            no multiple of 32.
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
