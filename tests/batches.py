"""Images and targets that stand for data."""

import torch
from torch import Tensor

from tests.small_models import CLASSES

Targets = list[dict[str, Tensor]]


def pictures(count: int = 2, size: int = 64) -> Tensor:
    """Random RGB images in [0, 1]."""
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def photographs(*sizes: tuple[int, int]) -> list[Tensor]:
    """Random images of the given (height, width)."""
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(3, *size, generator=generator) for size in sizes]


def labels(count: int = 2) -> Tensor:
    """Class indices."""
    return torch.arange(count) % CLASSES


def detection_batch(count: int = 2, size: int = 64) -> tuple[list[Tensor], Targets]:
    """Random images, two boxes each."""
    boxes = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 8.0, 60.0, 36.0]])
    targets = [{"boxes": boxes + i, "labels": torch.tensor([1, 2 + i % 3])} for i in range(count)]
    return list(pictures(count, size)), targets


def targets(count: int) -> list[dict[str, Tensor]]:
    """One object in each of ``count`` images."""
    box, label = torch.tensor([[8.0, 8.0, 40.0, 48.0]]), torch.tensor([1])
    return [{"boxes": box.clone(), "labels": label.clone()} for _ in range(count)]


def nothing() -> dict[str, Tensor]:
    """The target of an image without objects."""
    return {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
