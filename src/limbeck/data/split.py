"""The two sides of a dataset that is divided at random, such as for choosing a number on one."""

from typing import Literal, get_args

import torch
from torchvision import tv_tensors

from limbeck.data.base import Target, VisionDataset
from limbeck.ranges import Range, refuse_outside

Side = Literal["training", "held_out"]

_RANGES = {
    "share": Range(0, 1, open=True, open_above=True),
    "seed": Range(0, 2**63 - 1),
}


class Split(VisionDataset):
    """One side of a dataset that is divided at random.

    A recipe whose numbers are chosen on images that are not trained on states ``training`` of its
    training set as ``data.train``, and ``held_out`` of it, with the same share and seed, as
    ``data.val``. Together the two sides are the dataset, and no image is in both. Images stay in
    the order of the dataset, and keep their ``image_id``.

    Args:
        dataset: The dataset, of two images or more.
        side: The side that this is: what is trained on, or what is held out.
        share: The share of the images that is held out, above 0 and below 1. Each side has an
            image at least.
        seed: The number that decides which images they are.

    Attributes:
        indices: The positions of the images in the dataset.

    Raises:
        ValueError: ``side`` is none of the two, a number is out of its range, or the dataset has
            fewer than two images.

    Example:
        >>> from limbeck.data import Shapes, Split
        >>> shapes = Shapes(count=10)
        >>> len(Split(shapes)), len(Split(shapes, "held_out"))
        (8, 2)
    """

    def __init__(
        self, dataset: VisionDataset, side: Side = "training", share: float = 0.2, seed: int = 0
    ) -> None:
        if side not in get_args(Side):
            raise ValueError(f"side is {side!r}; expected training or held_out. Give one of them.")
        refuse_outside(_RANGES, {"share": share, "seed": seed})
        count = len(dataset)
        if count < 2:
            raise ValueError(
                f"dataset has {count} images; expected two or more, as each side needs one. Give a "
                "larger dataset."
            )
        self.task, self.classes = dataset.task, dataset.classes
        self.dataset = dataset
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        held_out = min(count - 1, max(1, round(share * count)))
        own = order[:held_out] if side == "held_out" else order[held_out:]
        self.indices: list[int] = own.sort().values.tolist()

    def __len__(self) -> int:
        """The number of images on this side."""
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        """The image and its target, as the dataset has them."""
        return self.dataset[self.indices[index]]

    def image_size(self, index: int) -> tuple[int, int]:
        """The (height, width) of an image in pixels, without decoding it."""
        return self.dataset.image_size(self.indices[index])
