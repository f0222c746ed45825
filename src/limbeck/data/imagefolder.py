"""Classification datasets as folders of images, with one folder for each class."""

import os
from pathlib import Path, PurePath

import torch
from torchvision import tv_tensors

from limbeck.data.base import Target, Task, VisionDataset, open_image, to_rgb
from limbeck.data.files import SUFFIXES, LeftOut, is_companion, walked
from limbeck.data.kept import KeptImages
from limbeck.data.orientation import seen_size, upright
from limbeck.data.table import Texts

SPLITS = {"train", "training", "val", "valid", "validation", "test"}
LAYOUTS = {"Annotations": "limbeck.data.VOC", "annotations": "limbeck.data.COCO"}


class ImageFolder(VisionDataset):
    """A dataset in the layout of ``torchvision.datasets.ImageFolder``: a folder is a class.

    The classes are the names of the folders, sorted. Hidden files and folders, those that operating
    systems leave behind, and files that are no images are left out; their numbers are logged.
    Photographs are turned upright as their EXIF orientation says. The first 64 MiB of decoded
    pixels stay in the memory of each process that reads them, so that small images are not decoded
    in every epoch.

    Args:
        root: The folder of one split, such as ``clothing/train``, which holds a folder of images
            for each class.

    Attributes:
        task: The task, which is ``"classification"``.
        paths: The image files, class by class, sorted in each.
        labels: The class of each image, int64 (N,), which counts from 0.

    Raises:
        FileNotFoundError: ``root`` does not exist or has no folders, or a class has no image.
        ValueError: The folders in ``root`` are splits or those of another layout, or there is only
            one.
    """

    task: Task = "classification"

    def __init__(self, root: str | Path) -> None:
        folder = Path(root)
        self.classes = _classes(folder)
        left_out, before = LeftOut(folder), len(str(folder)) + 1
        samples = [
            (os.path.join(parent, name), label)  # noqa: PTH118 - a path is slow to make
            for label, of_class in enumerate(self.classes)
            for parent, names in sorted(walked(folder / of_class))
            for name in names
            # What lies in the folder is cut out: to parse whole paths takes twice as long.
            if left_out.keeps_image(PurePath(parent[before:], name))
        ]
        left_out.say()
        self.paths = Texts.of(path for path, _ in samples)
        self.labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
        self._kept = KeptImages()
        counts = self.labels.bincount(minlength=len(self.classes))
        empty = [name for name, n in zip(self.classes, counts.tolist(), strict=True) if n == 0]
        if empty:
            raise FileNotFoundError(
                f"{folder}: {len(empty)} of the {len(self.classes)} classes have no image, the "
                f"first is {folder / empty[0]}; expected images ({' '.join(SUFFIXES)}) in "
                "each: add some, or take the folder away in every split"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        # A copy, since a loading worker that sends a view would keep the labels of all images.
        return self._kept.at(index, lambda: self._read(index)), self.labels[index].clone()

    def _read(self, index: int) -> tv_tensors.Image:
        with open_image(self.paths[index]) as file:
            return to_rgb(upright(file))

    def image_size(self, index: int) -> tuple[int, int]:
        """The (height, width) in pixels of an image as it is turned upright."""
        return seen_size(self.paths[index])


def _classes(folder: Path) -> tuple[str, ...]:
    """The names of the classes' folders; an error says what is wrong with another layout."""
    expected = "expected the folder of one split, with a folder of images a class"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; {expected}")
    found = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and not is_companion(PurePath(path.name))
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
