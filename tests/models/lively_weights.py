"""Random but lively weights, so that two models that agree do not agree by being silent."""

import torch
from torch import nn


def scramble(model: nn.Module, seed: int = 0) -> nn.Module:
    """Norms far from the identity, and classes that are found everywhere; the rest is as it was."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if "running_" in name or (tensor.dim() == 1 and name.endswith("weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("cls_logits.bias", "cls_score.bias")):
            tensor.normal_(generator=generator)
    return model


def with_lively_heads(model: nn.Module) -> nn.Module:
    """Heads of random weights, too: every layer answers, at the price of rounding that is seen."""
    generator = torch.Generator().manual_seed(5)
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            value.uniform_(-0.2, 0.2, generator=generator)
        elif name.endswith("running_var") or (value.dim() == 1 and name.endswith("weight")):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.dim() > 1 and ("head" in name or "predictor" in name):
            value.normal_(std=value[0].numel() ** -0.5, generator=generator)
        elif name.endswith(("cls_logits.bias", "cls_score.bias")):
            value.normal_(generator=generator)
    return model
