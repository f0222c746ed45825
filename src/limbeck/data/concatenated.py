"""Several datasets as one, such as the training images of VOC 2007 and 2012."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import torch
from torchvision import tv_tensors

from limbeck.data.base import Target, VisionDataset
from limbeck.names import escaped


class Concatenated(VisionDataset):
    """One dataset after the other, as one; ``image_id`` counts through all of them.

    Args:
        datasets: The datasets, of one task and with the same classes in the same order.

    Raises:
        ValueError: There is no dataset, or they differ in task or classes.
    """

    def __init__(self, datasets: Sequence[VisionDataset]) -> None:
        if not datasets:
            raise ValueError("datasets is empty; expected one at least")
        first = datasets[0]
        for number, other in enumerate(datasets):
            if (other.task, other.classes) != (first.task, first.classes):
                raise ValueError(
                    f"datasets[{number}] is for {other.task}, of {_listed(other)}; "
                    f"datasets[0] for {first.task}, of {_listed(first)}. State one list "
                    "of classes for all."
                )
        self.task, self.classes = first.task, first.classes
        self.datasets = tuple(datasets)
        self._ends = tuple(accumulate(len(dataset) for dataset in datasets))

    def __len__(self) -> int:
        """The number of images in all datasets."""
        return self._ends[-1]

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        """The image and its target, from the dataset that it is in."""
        dataset, own = self._place(index)
        image, target = dataset[own]
        if isinstance(target, dict):
            target = {**target, "image_id": torch.tensor(index % len(self))}
        return image, target

    def image_size(self, index: int) -> tuple[int, int]:
        """The (height, width) of an image in pixels, without decoding it."""
        dataset, own = self._place(index)
        return dataset.image_size(own)

    def _place(self, index: int) -> tuple[VisionDataset, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        index %= len(self)
        number = bisect_right(self._ends, index)
        return self.datasets[number], index - (self._ends[number - 1] if number else 0)


def _listed(dataset: VisionDataset) -> str:
    """The names of its classes in one line."""
    return ", ".join(map(escaped, dataset.classes))
