"""How batches are made of a dataset, in the workers of a loader."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from limbeck.data.base import BadSampleError, Target, VisionDataset
from limbeck.data.sampling import BATCH_TRANSFORM, Draw, sample_seed


class DetectionBatch(NamedTuple):
    """A batch for detection.

    Attributes:
        images: The images, each float32 (3, H, W) in [0, 1].
        targets: The target of each image, as :class:`limbeck.data.VisionDataset` describes it.
    """

    images: list[Tensor]
    targets: list[dict[str, Tensor]]

    def __reduce__(self) -> tuple[Callable[..., "DetectionBatch"], tuple[object, object]]:
        """Pack the batch for the way from a worker, where each tensor costs the receiver 0.1 ms."""
        alike = len({image.shape for image in self.images}) == 1
        arrays = [{key: value.numpy() for key, value in t.items()} for t in self.targets]
        return _unpack, (torch.stack(self.images) if alike else self.images, arrays)


class ClassificationBatch(NamedTuple):
    """A batch for classification.

    Attributes:
        images: The images, float32 (B, 3, H, W) in [0, 1].
        targets: The indices of their classes, int64 (B,), which count from 0.
    """

    images: Tensor
    targets: Tensor


class AugmentedBatches(Dataset[DetectionBatch | ClassificationBatch | None]):
    """A dataset with its transforms, which is read one batch of draws at a time.

    The random numbers of a sample are a function of ``(seed, epoch, image)``, and those of a batch
    are a function of ``(seed, epoch, its first image)``: neither the number of workers nor what was
    drawn before changes them, and the global random state is left as it was.

    Args:
        dataset: The images and their targets.
        transform: A callable that takes and gives ``(image, target)``. The image that it gives is
            float32 in [0, 1].
        batch_transform: A callable that takes and gives the list of all samples of a batch, after
            ``transform``. None: there is none.
        seed: The number that, with epoch and image, seeds the transforms.
        bad: A flag for each image, bool (len(dataset),), in shared memory, which is set where a bad
            sample is skipped. None: a bad sample is an error.
        replace: Whether the next good image of the dataset takes the place of a bad sample, so that
            batches keep their size. Otherwise the sample is left out.
    """

    def __init__(
        self,
        dataset: VisionDataset,
        transform: Callable[..., Any],
        batch_transform: Callable[..., Any] | None = None,
        *,
        seed: int = 0,
        bad: Tensor | None = None,
        replace: bool = False,
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.batch_transform = batch_transform
        self.seed = seed
        self.bad = bad
        self.replace = replace

    def __getitem__(self, draws: list[Draw]) -> DetectionBatch | ClassificationBatch | None:
        """Make one batch of plain tensors, as torchvision's subclasses would slow the models down.

        Args:
            draws: The samples of the batch.

        Returns:
            The batch of the dataset's task. None: no sample of it is left.

        Raises:
            BadSampleError: An image cannot be read, or none can where bad ones are skipped.
            ValueError: Images for classification, which become one tensor, differ in size.
        """
        samples = [sample for draw in draws if (sample := self._sample(draw)) is not None]
        if not samples:
            return None
        if self.batch_transform is not None:
            first = draws[0]
            with _seeded(sample_seed(self.seed, first.epoch, first.image, BATCH_TRANSFORM)):
                samples = self.batch_transform(samples)
        images, targets = zip(*(_plain(*sample) for sample in samples), strict=True)
        if self.dataset.task == "detection":
            return DetectionBatch(list(images), list(targets))
        sizes = {tuple(image.shape[-2:]) for image in images}
        if len(sizes) > 1:
            raise ValueError(
                f"images of the sizes {sorted(sizes)} in one batch of a classification dataset; "
                "give an augmentation (limbeck.data.ClassificationAugmentation), which crops them"
            )
        return ClassificationBatch(torch.stack(images), torch.stack(targets))

    def _sample(self, draw: Draw) -> tuple[Tensor, Target] | None:
        read = self._read(draw.image)
        if read is None:
            return None
        with _seeded(sample_seed(self.seed, draw.epoch, draw.image)):
            sample: tuple[Tensor, Target] = self.transform(*read)
            return sample

    def _read(self, drawn: int) -> tuple[Tensor, Target] | None:
        """An image and its target, or what takes the place of a bad one."""
        count = len(self.dataset)
        for step in range(count if self.replace else 1):
            index = (drawn + step) % count
            try:
                return self.dataset[index]
            except BadSampleError as error:
                if self.bad is None:
                    raise BadSampleError(
                        f"{error}, or give the data module on_bad_sample='skip'"
                    ) from error
                self.bad[index] = True
                reason = error
        if self.replace:
            raise BadSampleError(f"none of the {count} images is a good sample: {reason}")
        return None


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw the random numbers of the CPU from a seed, for a while."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would reseed the accelerators too, where there are no workers
        torch.default_generator.manual_seed(seed)
        yield


def _plain(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """The same sample without torchvision's subclasses of tensors."""
    if isinstance(target, dict):
        return image.as_subclass(Tensor), {k: v.as_subclass(Tensor) for k, v in target.items()}
    return image.as_subclass(Tensor), target.as_subclass(Tensor)


def _unpack(images: Tensor | list[Tensor], arrays: list[dict[str, NDArray[Any]]]) -> DetectionBatch:
    targets = [{key: torch.as_tensor(value) for key, value in t.items()} for t in arrays]
    return DetectionBatch(list(images), targets)
