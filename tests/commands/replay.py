"""A student that finds in known images what another detector found there."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from limbeck.data import VOC
from tests.metrics.plain_voc import read_detections


class Replay(nn.Module):
    """Looks an image up by its pixels; boxes are moved by fractions, scores confident.

    Args:
        root: of the dataset.
        split: whose images it knows.
        detections: folder of the other detector's files.
    """

    def __init__(self, root: Path, split: str, detections: Path) -> None:
        super().__init__()
        self.transform = GeneralizedRCNNTransform(64, 64, [0.0] * 3, [1.0] * 3)
        self.unused = nn.Parameter(torch.zeros(1))
        data = VOC(root, split)
        found = torch.from_numpy(read_detections(detections, [i.path.stem for i in data.images]))
        moved = torch.rand(found[:, 3:].shape, generator=torch.Generator().manual_seed(0))
        found[:, 3:] += moved - torch.tensor([1.5, 1.5, 0.5, 0.5])
        found[:, 2] = 1 - (1 - found[:, 2]) / 100
        self.found = {
            _key(image): found[found[:, 0] == number].float()
            for number, (image, _) in enumerate(data)
        }

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        self.transform(images)  # a detector's is asked for the frame it works in
        nothing = torch.zeros(0, 7)  # as in the dry pass
        rows = [self.found.get(_key((image * 255).round()), nothing) for image in images]
        return [
            {"boxes": row[:, 3:], "scores": row[:, 2], "labels": row[:, 1].long() + 1}
            for row in rows
        ]


def _key(image: Tensor) -> tuple[int, ...]:
    return (*image.shape, int(image.long().sum()))
