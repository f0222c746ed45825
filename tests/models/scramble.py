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


def photographs(*sizes: tuple[int, int]) -> list[Tensor]:
    """Random images of the given (height, width)."""
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(3, *size, generator=generator) for size in sizes]


def targets(count: int) -> list[dict[str, Tensor]]:
    """One object in each of ``count`` images."""
    box, label = torch.tensor([[8.0, 8.0, 40.0, 48.0]]), torch.tensor([1])
    return [{"boxes": box.clone(), "labels": label.clone()} for _ in range(count)]
