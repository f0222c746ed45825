"""Short ways to write what a detection metric takes."""

import torch
from torch import Tensor


def truth(
    *boxes: list[float], labels: list[int] | None = None, **more: Tensor
) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([1] * len(boxes) if labels is None else labels, dtype=torch.int64),
        **more,
    }


def found(
    *boxes: list[float], scores: list[float], labels: list[int] | None = None
) -> dict[str, Tensor]:
    return truth(*boxes, labels=labels, scores=torch.tensor(scores, dtype=torch.float32))
