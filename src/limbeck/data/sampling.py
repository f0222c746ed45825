"""Which images make up which batch, as a function of the seed, the epoch and the process alone."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, distributed
from torch.utils.data import Sampler

# What random numbers are for, where it is not the order (epoch) or a sample (epoch, image).
BATCHES, CALIBRATION, BATCH_TRANSFORM, METHODS, KINDS, UNLABELLED = 1, 2, 3, 4, 5, 6


class Draw(NamedTuple):
    """One sample of a batch.

    Attributes:
        epoch: The epoch for which the image is augmented.
        image: The index of the image in its dataset.
        unlabelled: Whether its dataset is the one of images without labels.
    """

    epoch: int
    image: int
    unlabelled: bool = False


class Place(NamedTuple):
    """A place in the order of all batches of a run.

    Attributes:
        epoch: The sampler's number of the epoch.
        position: How many batches of the epoch are done.
        trainer_epoch: The trainer's number of the epoch.
    """

    epoch: int
    position: int
    trainer_epoch: int


class BatchOrder(Sampler[list[Draw]]):
    """The order of a process's training batches, which can go on at any place in any epoch.

    A subclass says in :meth:`draws` which batches an epoch has, as a function of the number of the
    epoch alone, and how many in ``__len__``. Each iteration is the next epoch, unless ``start_at``
    has said where it starts.
    """

    def __init__(self) -> None:
        self._trainer_epoch = 0
        self._next: Place | None = None

    @abstractmethod
    def __len__(self) -> int:
        """The number of batches in an epoch, which is the same in all."""

    @abstractmethod
    def draws(self, epoch: int) -> Iterator[list[Draw]]:
        """This process's batches of an epoch, in their order."""

    @abstractmethod
    def depends_on(self) -> dict[str, float]:
        """The numbers that decide the order of the batches over all processes, by their names."""

    def __iter__(self) -> Iterator[list[Draw]]:
        # A generator: its epoch begins with its first batch, as loaders call iter() without reading
        epoch, start, trainer_epoch = self.upcoming()
        self._next = Place(epoch + 1, 0, trainer_epoch)
        yield from islice(self.draws(epoch), start, None)

    def upcoming(self) -> Place:
        """The place at which the next iteration starts."""
        if self._next is None:
            return Place(self._trainer_epoch, 0, self._trainer_epoch)
        epoch, position, trainer_epoch = self._next
        if position and trainer_epoch != self._trainer_epoch:
            return Place(epoch + 1, 0, self._trainer_epoch)  # the trainer had left that epoch
        return Place(epoch, position, self._trainer_epoch)

    def start_at(self, place: Place) -> None:
        """Let the next iteration go on at a place, unless the trainer begins another epoch."""
        self._next = place

    def set_epoch(self, epoch: int) -> None:
        """Note the number of the epoch, which Lightning says before each one.

        A new run begins there, and it tells whether a restored epoch still goes on. Beyond that the
        sampler counts for itself: Lightning 2.6 counts one too many after it has resumed at the end
        of an epoch with ``max_steps``.

        Args:
            epoch: The trainer's number of the epoch that begins.
        """
        self._trainer_epoch = epoch


class ShuffledBatches(BatchOrder):
    """Batches of training samples, in a new order for every epoch.

    An epoch has ``images // batch_size // world_size`` batches on every process, all of the same
    size; the images that are left over rest until another epoch. Where there are not enough images
    for one batch on each process, the batches shrink to ``images // world_size``.

    With ``groups`` a batch has images of one group only, apart from at most one batch in an epoch,
    which is filled with what the groups leave over. So the number of batches stays the same.

    Args:
        images: The number of images.
        batch_size: The number of images in a batch, on each process.
        seed: The number that, with the epoch, decides the order.
        groups: The number of the group of each image, to keep the groups apart. None: all images
            are of one group.
        rank: The number of this process, which counts from 0.
        world_size: The number of processes.

    Raises:
        ValueError: There are fewer images than processes.
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        *,
        seed: int = 0,
        groups: Sequence[int] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__()
        if images < world_size:
            raise ValueError(f"{images} training images are not enough for {world_size} processes")
        self.batch_size = min(batch_size, images // world_size)
        self.seed = seed
        self.groups = torch.zeros(images) if groups is None else torch.tensor(groups)
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return len(self.groups) // self.batch_size // self.world_size

    def draws(self, epoch: int) -> Iterator[list[Draw]]:
        """This process's batches of an epoch, each in the order of :meth:`batches`."""
        for batch in self.batches(epoch).tolist():
            yield [Draw(epoch, image) for image in batch]

    def batches(self, epoch: int) -> Tensor:
        """The images in this process's batches of an epoch, int64 (len(self), batch_size)."""
        generator = torch.Generator().manual_seed(sample_seed(self.seed, epoch))
        order = torch.randperm(len(self.groups), generator=generator)
        grouped = [order[self.groups[order] == group] for group in torch.unique(self.groups)]
        whole = [len(group) // self.batch_size * self.batch_size for group in grouped]
        full = torch.cat([group[:n] for group, n in zip(grouped, whole, strict=True)])
        rest = torch.cat([group[n:] for group, n in zip(grouped, whole, strict=True)])
        rest = rest[torch.randperm(len(rest), generator=generator)]
        batches = torch.cat([full, rest[: len(rest) // self.batch_size * self.batch_size]])
        batches = batches.view(-1, self.batch_size)
        batches = batches[torch.randperm(len(batches), generator=generator)]
        return batches[: len(self) * self.world_size][self.rank :: self.world_size]

    def depends_on(self) -> dict[str, float]:
        """The numbers that decide the order of the batches over all processes, by their names."""
        return {
            "images": len(self.groups),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "world_size": self.world_size,
        }


def evaluation_batches(
    images: int, batch_size: int, *, rank: int = 0, world_size: int = 1
) -> list[list[Draw]]:
    """This process's batches of all images in their order, of which none comes twice.

    Args:
        images: The number of images.
        batch_size: The number of images in a batch.
        rank: The number of this process, which counts from 0.
        world_size: The number of processes, each of which takes every ``world_size``-th image.

    Returns:
        The draws of each batch.
    """
    draws = [Draw(0, image) for image in range(rank, images, world_size)]
    return [draws[start : start + batch_size] for start in range(0, len(draws), batch_size)]


def calibration_batches(
    images: int, batch_size: int, wanted: int, *, seed: int, rank: int = 0, world_size: int = 1
) -> list[list[Draw]]:
    """This process's batches of some images that are chosen at random.

    Args:
        images: The number of images to choose from.
        batch_size: The number of images in a batch.
        wanted: The number of images to choose, over all processes; at most all there are.
        seed: The number that decides which images they are.
        rank: The number of this process, which counts from 0.
        world_size: The number of processes.

    Returns:
        The draws of each batch.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(images, generator=generator)[:wanted][rank::world_size].tolist()
    draws = [Draw(0, image) for image in chosen]
    return [draws[start : start + batch_size] for start in range(0, len(draws), batch_size)]


def sample_seed(seed: int, *where: int) -> int:
    """A seed for one place in a run.

    Args:
        seed: The seed of the run.
        *where: The numbers that tell the place, such as an epoch and an image.

    Returns:
        A seed of 64 bits.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=where)
    return int(sequence.generate_state(1, np.uint64)[0])


def rank_and_world_size() -> tuple[int, int]:
    """The number of this process and of all processes; (0, 1) without torch.distributed."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
