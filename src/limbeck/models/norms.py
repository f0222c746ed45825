"""What the batch normalisations of a pretrained network do while it is trained further."""

from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm, freeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

Norm = Literal["frozen", "affine", "trained", "synchronised"]


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
    if isinstance(module, nn.BatchNorm2d):
        affine = AffineBatchNorm2d(module.num_features, module.eps)
        affine.load_state_dict(module.state_dict())
        return affine
    for name, child in module.named_children():
        setattr(module, name, _affine(child))
    return module
