"""Decoded images that stay in memory, so that a dataset of small ones is decoded once in a run."""

from collections.abc import Callable

from torchvision import tv_tensors

MOST_BYTES = (
    64 * 2**20
)  # of each process: 21,000 images of 32 x 32, or 100 photographs of 500 x 400


class KeptImages:
    """The first images that are read, as far as they fit into some memory.

    Args:
        most_bytes: The most bytes that the pixels of all kept images take.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.left = most_bytes
        self._images: dict[int, tv_tensors.Image] = {}

    def at(self, index: int, read: Callable[[], tv_tensors.Image]) -> tv_tensors.Image:
        """The image of an index, which is read where it is not kept.

        Args:
            index: The position in the dataset.
            read: Reads the image. What it raises is raised again at every call.

        Returns:
            The image, uint8 (3, H, W). It is the caller's own, to be changed at will.
        """
        if index in self._images:
            return self._images[index].clone()
        image = read()
        if image.nbytes <= self.left:
            self.left -= image.nbytes
            self._images[index] = image.clone()
        return image
