"""The images, objects and grids of HEAD's golden numbers, which RetinaNet's tests share."""

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from limbeck.models import BasicBlocks, RetinaNet

TINY = BasicBlocks((1, 1, 1, 1), (4, 4, 4, 4))
SIZES = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
LEVELS = range(5)
CONTENTS = [(128, 160), (120, 150)]
OBJECTS = [
    {"boxes": torch.tensor([[10.0, 12, 80, 100], [100, 20, 150, 60]]), "labels": [1, 18]},
    {"boxes": torch.tensor([[30.0, 25, 120, 110]]), "labels": [80]},
]


def flat(maps: Tensor, columns: int) -> Tensor:
    """(B, A * K, H, W) -> (B, H * W * A, K)."""
    return maps.unflatten(1, (-1, columns)).permute(0, 3, 4, 1, 2).flatten(1, 3)


def anchors_of(model: RetinaNet) -> Tensor:
    maps = [torch.zeros(2, 4, *size) for size in SIZES]
    return model.anchor_generator(ImageList(torch.zeros(2, 3, 64, 96), [(64, 96)] * 2), maps)[0]


def objects() -> list[dict[str, Tensor]]:
    """Ground truth of HEAD's fixtures; mmdetection's labels count from 0."""
    return [o | {"labels": torch.tensor(o["labels"])} for o in OBJECTS]
