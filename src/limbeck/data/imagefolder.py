"""Classification datasets as folders of images, one folder a class."""

from pathlib import Path

import torch
from PIL import ImageOps
from torchvision import tv_tensors
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from limbeck.data.base import Target, Task, VisionDataset, is_sideways, open_image, to_rgb

SPLITS = {"train", "training", "val", "valid", "validation", "test"}
LAYOUTS = {"Annotations": "limbeck.data.VOC", "annotations": "limbeck.data.COCO"}


class ImageFolder(VisionDataset):
    """The layout of ``torchvision.datasets.ImageFolder``: an image's class is the folder it is in.

    Classes are the folders' names, sorted; hidden folders are none. Photographs are turned upright
    as their EXIF orientation says.

    Args:
        root: one split, such as ``clothing/train``: the folder that holds the classes' folders.

    Raises:
        FileNotFoundError: ``root`` does not exist, has no folders, or a class has no image.
        ValueError: the folders in ``root`` are splits, or another layout's, or there is only one.
    """

    task: Task = "classification"

    def __init__(self, root: str | Path) -> None:
        folder = Path(root)
        self.classes = _classes(folder)
        indices = {name: index for index, name in enumerate(self.classes)}
        self.samples: list[tuple[str, int]] = make_dataset(
            folder, indices, IMG_EXTENSIONS, allow_empty=True
        )
        counts = torch.tensor([label for _, label in self.samples]).bincount(
            minlength=len(self.classes)
        )
        empty = [name for name, n in zip(self.classes, counts.tolist(), strict=True) if n == 0]
        if empty:
            raise FileNotFoundError(
                f"{folder}: {len(empty)} of the {len(self.classes)} classes have no image, the "
                f"first is {folder / empty[0]}; expected images ({' '.join(IMG_EXTENSIONS)}) in "
                "each: add some, or take the folder away in every split"
            )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        path, label = self.samples[index]
        with open_image(path) as file:
            return to_rgb(ImageOps.exif_transpose(file)), torch.tensor(label)

    def image_size(self, index: int) -> tuple[int, int]:
        """``(height, width)`` of the image as it is turned upright."""
        with open_image(self.samples[index][0]) as file:
            return (file.width, file.height) if is_sideways(file) else (file.height, file.width)


def _classes(folder: Path) -> tuple[str, ...]:
    """The classes' folders; says what is wrong where the layout is another."""
    expected = "expected the folder of one split, with a folder of images a class"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; {expected}")
    found = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if not found:
        raise FileNotFoundError(f"{folder} holds no folder; {expected}")
    for name in LAYOUTS.keys() & set(found):
        raise ValueError(
            f"{folder} holds the folders {found}; {expected}. With {name!r} it looks like a "
            f"detection dataset: use {LAYOUTS[name]}"
        )
    if set(found) <= SPLITS:
        raise ValueError(
            f"{folder} holds the splits {found}, expected classes; give one of them, such as "
            f"{folder / found[0]}"
        )
    if len(found) == 1:
        raise ValueError(
            f"{folder} holds the one folder {found[0]!r}; {expected}, and of at least two classes. "
            f"Did you mean {folder / found[0]}?"
        )
    return tuple(found)
