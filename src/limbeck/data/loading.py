"""From a dataset to batches: what runs in the workers of a loader."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from limbeck.data.base import Target, VisionDataset
from limbeck.data.sampling import Draw, sample_seed


class DetectionBatch(NamedTuple):
    """Images, each (3, H, W), and their targets."""

    images: list[Tensor]
    targets: list[dict[str, Tensor]]

    def __reduce__(self) -> tuple[Callable[..., "DetectionBatch"], tuple[object, object]]:
        """Packed for the way from a worker: every tensor that is sent costs the receiver 0.1 ms."""
        alike = len({image.shape for image in self.images}) == 1
        arrays = [{key: value.numpy() for key, value in t.items()} for t in self.targets]
        return _unpack, (torch.stack(self.images) if alike else self.images, arrays)


class ClassificationBatch(NamedTuple):
    """Images (B, 3, H, W) and class indices (B,)."""

    images: Tensor
    targets: Tensor


class AugmentedBatches(Dataset[DetectionBatch | ClassificationBatch]):
    """A dataset with its transform, read a batch of draws at a time.

    The random numbers of a sample are a function of ``(seed, epoch, image)``: neither the number of
    workers nor what was drawn before changes them, and the global state is left as it was.

    Args:
        dataset: the images and targets.
        transform: takes and gives ``(image, target)``; the image that it gives is float32.
        seed: with epoch and image, seeds the transform.
    """

    def __init__(
        self, dataset: VisionDataset, transform: Callable[..., Any], *, seed: int = 0
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed

    def __getitem__(self, draws: list[Draw]) -> DetectionBatch | ClassificationBatch:
        """One batch of plain tensors: torchvision's subclasses would slow the models down.

        Raises:
            ValueError: images of different sizes are to be one tensor.
        """
        images, targets = zip(*(self._sample(draw) for draw in draws), strict=True)
        if self.dataset.task == "detection":
            return DetectionBatch(list(images), list(targets))
        sizes = {tuple(image.shape[-2:]) for image in images}
        if len(sizes) > 1:
            raise ValueError(
                f"images of the sizes {sorted(sizes)} in one batch of a classification dataset; "
                "give an augmentation (limbeck.data.ClassificationAugmentation), which crops them"
            )
        return ClassificationBatch(torch.stack(images), torch.stack(targets))

    def _sample(self, draw: Draw) -> tuple[Tensor, Target]:
        image, target = self.dataset[draw.image]
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would reseed the accelerators too, where there are no workers
            torch.default_generator.manual_seed(sample_seed(self.seed, draw.epoch, draw.image))
            image, target = self.transform(image, target)
        return _plain(image), (
            {key: _plain(value) for key, value in target.items()}
            if isinstance(target, dict)
            else _plain(target)
        )


def _plain(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(Tensor)


def _unpack(images: Tensor | list[Tensor], arrays: list[dict[str, NDArray[Any]]]) -> DetectionBatch:
    targets = [{key: torch.as_tensor(value) for key, value in t.items()} for t in arrays]
    return DetectionBatch(list(images), targets)
