"""A dataset: images of stripes, which lie or stand."""

import torch
from torchvision import tv_tensors

from limbeck.data import VisionDataset


class Stripes(VisionDataset):
    """Generated images of coloured stripes on noise; the class is their direction.

    Args:
        count: The number of images.
        size: The height and width of the images, in pixels.
        seed: Sets of different seeds have different images.
    """

    task = "classification"
    classes = ("lying", "standing")

    def __init__(self, count: int, size: int = 32, seed: int = 0) -> None:
        self.count = count
        self.size = size
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, torch.Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_000 + index)
        label = torch.randint(2, (), generator=generator)
        colour = torch.randint(60, 200, (3, 1, 1), generator=generator)
        noise = torch.randint(50, (3, self.size, self.size), generator=generator)
        stripes = (torch.arange(self.size) // 4 % 2)[:, None].expand(-1, self.size)
        if label == 1:
            stripes = stripes.T
        return tv_tensors.Image((colour * stripes + noise).to(torch.uint8)), label

    def image_size(self, index: int) -> tuple[int, int]:
        """The height and width of an image, in pixels."""
        return self.size, self.size
