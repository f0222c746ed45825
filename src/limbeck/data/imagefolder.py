"""Classification datasets as folders of images, one folder a class."""

from pathlib import Path

import torch
from PIL import ImageOps
from torchvision import datasets, tv_tensors

from limbeck.data.base import Target, Task, VisionDataset, open_image, to_rgb

SPLITS = {"train", "training", "val", "valid", "validation", "test"}
ORIENTATION, SIDEWAYS = 0x0112, {5, 6, 7, 8}  # the EXIF tag, and its values that swap the sides


class ImageFolder(VisionDataset):
    """``torchvision.datasets.ImageFolder``: the class of an image is the folder that it is in.

    Classes are the folders' names, sorted. Photographs are turned upright as their EXIF
    orientation says.

    Args:
        root: one split, such as ``clothing/train``: the folder that holds the classes' folders.

    Raises:
        FileNotFoundError: ``root`` does not exist, has no folders, or a class has no image.
        ValueError: the folders in ``root`` are splits.
    """

    task: Task = "classification"

    def __init__(self, root: str | Path) -> None:
        folder = Path(root)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder} is not a folder; give the folder of one split, with a folder a class"
            )
        files = datasets.ImageFolder(folder)
        if set(files.classes) <= SPLITS:
            raise ValueError(
                f"{folder} holds the splits {files.classes}, expected classes; give one of them, "
                f"such as {folder / files.classes[0]}"
            )
        self.classes = tuple(files.classes)
        self.samples: list[tuple[str, int]] = files.samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        path, label = self.samples[index]
        with open_image(path) as file:
            return to_rgb(ImageOps.exif_transpose(file)), torch.tensor(label)

    def image_size(self, index: int) -> tuple[int, int]:
        """``(height, width)`` of the image as it is turned upright."""
        with open_image(self.samples[index][0]) as file:
            sideways = file.getexif().get(ORIENTATION) in SIDEWAYS
            return (file.width, file.height) if sideways else (file.height, file.width)
