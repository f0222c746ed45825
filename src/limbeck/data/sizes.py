"""The sizes of a dataset's images, some of which nobody can read."""

from collections.abc import Iterable

import torch
from torch import Tensor

from limbeck.data.base import BadSampleError, VisionDataset


def image_sizes(
    dataset: VisionDataset, indices: Iterable[int]
) -> tuple[Tensor, list[BadSampleError]]:
    """The sizes of images, without decoding them.

    Args:
        dataset: The dataset.
        indices: The positions of the images in it.

    Returns:
        The (height, width) of each image in pixels, (N, 2), 0 where it cannot be read; and why
        such images cannot be read, an error for each.
    """
    sizes, unreadable = [], []
    for index in indices:
        try:
            sizes.append(dataset.image_size(index))
        except BadSampleError as error:
            sizes.append((0, 0))
            unreadable.append(error)
    return torch.tensor(sizes, dtype=torch.long).reshape(-1, 2), unreadable
