"""How batches are made of a dataset, in the workers of a loader."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from limbeck.data.base import BadSampleError, Target, VisionDataset
from limbeck.data.sampling import BATCH_TRANSFORM, Draw, sample_seed

Images = TypeVar("Images", Tensor, list[Tensor])
Layout = tuple[Sequence[int], Sequence[int]]  # the shape and the strides of a tensor


class DetectionBatch(NamedTuple):
    """A batch for detection.

    Attributes:
        images: The images, each (3, H, W): uint8, or float32 in [0, 1]; see :func:`scaled`.
        targets: The target of each image, as :class:`limbeck.data.VisionDataset` describes it.
            None: the images have no labels.
    """

    images: list[Tensor]
    targets: list[dict[str, Tensor]] | None

    def __reduce__(self) -> tuple[Callable[..., "DetectionBatch"], tuple[object, ...]]:
        """Pack the batch for the way from a worker, where each tensor costs the receiver 0.1 ms."""
        arrays = None
        if self.targets is not None:
            arrays = [{key: _array(value) for key, value in t.items()} for t in self.targets]
        return _unpack, (*_pack(self.images), arrays)


class ClassificationBatch(NamedTuple):
    """A batch for classification.

    Attributes:
        images: The images, (B, 3, H, W): uint8, or float32 in [0, 1]; see :func:`scaled`.
        targets: The indices of their classes, int64 (B,), which count from 0. None: the images have
            no labels.
    """

    images: Tensor
    targets: Tensor | None


class AugmentedBatches(Dataset[DetectionBatch | ClassificationBatch | None]):
    """A dataset with its transforms, which is read one batch of draws at a time.

    The random numbers of a sample are a function of ``(seed, epoch, image)``, and those of a batch
    are a function of ``(seed, epoch, its first image)``: neither the number of workers nor what was
    drawn before changes them, and the global random state is left as it was.

    Args:
        dataset: The images and their targets.
        transform: A callable that takes and gives ``(image, target)``. The image that it gives is
            uint8, or float32 in [0, 1]. Where a batch has both, all become float32.
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
        plain, targets = zip(*(_plain(*sample) for sample in samples), strict=True)
        images = list(plain)
        if len({image.dtype for image in images}) > 1:
            images = scaled(images)
        if self.dataset.task == "detection":
            return DetectionBatch(images, list(targets))
        sizes = {tuple(image.shape[-2:]) for image in images}
        if len(sizes) > 1:
            raise ValueError(
                f"images of the sizes {sorted(sizes)} in one batch of a classification dataset; "
                "give an augmentation (limbeck.data.ClassificationAugmentation), which crops them"
            )
        return ClassificationBatch(_stacked(images), torch.stack(targets))

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


def scaled(images: Images) -> Images:
    """Images as models take them, which were uint8 on their way, a quarter of the bytes.

    Args:
        images: The images of a batch, on any device: uint8, or floats in [0, 1].

    Returns:
        The images in the same form and on the same device: float32 in [0, 1] where they were uint8,
        and contiguous. The arithmetic is that of ``v2.ToDtype(torch.float32, scale=True)``.
    """
    if isinstance(images, Tensor):
        if images.dtype is not torch.uint8:
            return images.contiguous()
        floats = images.to(torch.float32, memory_format=torch.contiguous_format)
        return floats.mul_(1 / 255)
    return [scaled(image) for image in images]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw the random numbers of the CPU from a seed, for a while."""
    state = torch.default_generator.get_state()
    try:
        # torch.manual_seed would reseed the accelerators too, where there are no workers
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.default_generator.set_state(state)


def _plain(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """The same sample without torchvision's subclasses of tensors."""
    if isinstance(target, dict):
        for key, value in target.items():
            if not isinstance(value, Tensor):
                raise ValueError(
                    f"the dataset's target has {key!r}, which is a {type(value).__name__}; "
                    "expected tensors alone, with a row for each object, and image_id. Leave it "
                    "out, or convert it."
                )
        return image.as_subclass(Tensor), {k: v.as_subclass(Tensor) for k, v in target.items()}
    return image.as_subclass(Tensor), target.as_subclass(Tensor)


def _stacked(images: list[Tensor]) -> Tensor:
    """Images of one size as (B, 3, H, W), where a worker's other end can read them."""
    if get_worker_info() is None:
        return torch.stack(images)
    together = _shared(images[0], len(images) * images[0].numel())
    return torch.stack(images, out=together.view(len(images), *images[0].shape))


def _pack(images: list[Tensor]) -> tuple[Tensor, list[Layout]]:
    """Images of any sizes in one tensor, each as it lies in memory, and where each is in it."""
    counts = [image.numel() for image in images]
    together = _shared(images[0], sum(counts))
    layouts: list[Layout] = []
    for image, part in zip(images, torch.split(together, counts), strict=True):
        strides = torch.empty_like(image, device="meta").stride()
        part.as_strided(image.shape, strides).copy_(image)
        layouts.append((tuple(image.shape), strides))
    return together, layouts


def _shared(like: Tensor, count: int) -> Tensor:
    """Room for values of a type in memory that is sent to another process without a copy."""
    storage = torch.UntypedStorage._new_shared(count * like.element_size())  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=like.dtype).set_(storage)


def _array(value: Tensor) -> NDArray[Any] | Tensor:
    """A tensor of a target as it is sent; NumPy lacks bfloat16, which goes as a tensor."""
    return value if value.dtype is torch.bfloat16 else value.numpy()


def _unpack(
    together: Tensor,
    layouts: list[Layout],
    arrays: list[dict[str, NDArray[Any] | Tensor]] | None,
) -> DetectionBatch:
    parts: Sequence[Tensor] = torch.split(together, [math.prod(shape) for shape, _ in layouts])
    images = [part.as_strided(*layout) for part, layout in zip(parts, layouts, strict=True)]
    if arrays is None:
        return DetectionBatch(images, None)
    targets = [{key: torch.as_tensor(value) for key, value in t.items()} for t in arrays]
    return DetectionBatch(images, targets)
