"""Decoded images that stay in memory, so that small ones are not decoded in every epoch."""

from collections.abc import Callable

from torchvision import tv_tensors

# 21,000 images of 32 x 32 px, or 100 photographs of 500 x 400.
MOST_BYTES = 64 * 2**20


class KeptImages:
    """The first images that are read, as far as they fit into some memory.

    A copy in another process begins without images: each would take file descriptors on its way.

    Args:
        most_bytes: The most bytes that the pixels of all kept images take.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = self.left = most_bytes
        self._images: dict[int, tv_tensors.Image] = {}

    def __reduce__(self) -> tuple[type["KeptImages"], tuple[int]]:
        return KeptImages, (self.most_bytes,)

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
