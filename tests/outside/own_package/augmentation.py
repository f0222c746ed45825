"""An augmentation: images without their colours."""

import torch
from torchvision.transforms import v2

from limbeck.data import Augmentation


class GreyImages(Augmentation):
    """Takes the colours away, in training and in evaluation, and flips training images.

    The constructor's arguments are kept as attributes of the same names: from these, limbeck writes
    into the exported student what it was measured with.

    Args:
        flip: The probability of a horizontal flip in training.
    """

    task = "classification"

    def __init__(self, flip: float = 0.5) -> None:
        self.flip = flip

    def training(self) -> v2.Compose:
        """A transform of ``(image, target)``, whose image is float32 in [0, 1]."""
        return v2.Compose([v2.RandomHorizontalFlip(self.flip), self.evaluation()])

    def evaluation(self) -> v2.Compose:
        """The same for validation and for ``limbeck predict``."""
        return v2.Compose([v2.Grayscale(3), v2.ToDtype(torch.float32, scale=True)])
