"""Random but lively weights, so that two detectors that agree do not agree by being silent."""

import torch
from torch import Tensor, nn


def scramble(model: nn.Module, seed: int = 0) -> nn.Module:
    """Norms far from the identity, and heads that find something everywhere."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if "running_" in name or (tensor.dim() == 1 and name.endswith("weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("cls_logits.bias", "cls_score.bias")):
            tensor.normal_(generator=generator)
    return model


def same_detections(first: nn.Module, second: nn.Module, images: list[Tensor]) -> int:
    """Assert that both find the same; how many detections there are."""
    with torch.no_grad():
        ours, theirs = first.eval()(images), second.eval()(images)
    for a, b in zip(ours, theirs, strict=True):
        for key in ("boxes", "scores", "labels"):
            torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-4)
    return sum(len(found["boxes"]) for found in ours)


def lively(model: nn.Module) -> nn.Module:
    """Random weights with which every layer answers, so that each difference is seen."""
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
