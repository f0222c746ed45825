"""The data of a run, as Lightning wants it: one training set, one validation set, their loaders."""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from limbeck.data import ClassificationAugmentation, DetectionAugmentation, VisionDataset
from limbeck.data.base import Task
from limbeck.data.loading import AugmentedBatches
from limbeck.data.sampling import ShuffledBatches, evaluation_batches, rank_and_world_size
from limbeck.data.transforms import to_float

AUGMENTATIONS = {
    "detection": DetectionAugmentation,
    "classification": ClassificationAugmentation,
}


class TrainingLoader(StatefulDataLoader):  # type: ignore[misc]
    """A loader that draws nothing before its first batch is read.

    Lightning calls ``iter()`` and may ask for the state before it says which epoch it is; the
    workers of ``StatefulDataLoader`` would be reading ahead by then.
    """

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """The position behind the last batch that was read."""
        unread = self._iterator is None
        position = self.next_iter_state or {} if unread else super().state_dict()
        return {"workers": self.num_workers, "position": position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lets the next iteration go on at the position that was saved.

        Raises:
            ValueError: it was saved with another number of workers, which torchdata cannot restore.
        """
        if state_dict["workers"] != self.num_workers:
            raise ValueError(
                f"the checkpoint was written with {state_dict['workers']} loading workers, this "
                f"run has {self.num_workers}; give the data module workers={state_dict['workers']}"
            )
        super().load_state_dict(state_dict["position"])


class DataModule(LightningDataModule):
    """Loaders for a training and a validation set of one task with one list of classes.

    Training batches follow ``limbeck.data.sampling.ShuffledBatches``: what a run sees is a function
    of the seed and the number of processes, whatever the number of workers, and a run that is
    resumed in the middle of an epoch sees what it would have seen (with the same number of
    workers, which torchdata's loader insists on). Validation goes through the images in their
    order, each on one process. The trainer has to be told ``use_distributed_sampler=False``.

    Args:
        val: validation set.
        train: training set; a run that only evaluates needs none.
        batch_size: images a step, on each process.
        eval_batch_size: the same for validation; ``batch_size`` by default.
        workers: processes that load, for each of the two sets; 0 loads in the main process.
        augmentation: what happens to the images; by default they only become float32 in [0, 1].
        group_by_aspect_ratio: keep upright and lying images in separate batches, which saves
            padding.
        seed: decides order and augmentation of the training set.

    Raises:
        ValueError: the two sets differ in task or classes, the augmentation is for another task,
            or a number is out of range.
    """

    def __init__(
        self,
        val: VisionDataset,
        train: VisionDataset | None = None,
        *,
        batch_size: int = 16,
        eval_batch_size: int | None = None,
        workers: int = 2,
        augmentation: DetectionAugmentation | ClassificationAugmentation | None = None,
        group_by_aspect_ratio: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_alike(val, train)
        if augmentation is not None and not isinstance(augmentation, AUGMENTATIONS[val.task]):
            raise ValueError(
                f"augmentation is a {type(augmentation).__name__}, the datasets are for "
                f"{val.task}; give a limbeck.data.{AUGMENTATIONS[val.task].__name__}"
            )
        if eval_batch_size is None:
            eval_batch_size = batch_size
        if min(batch_size, eval_batch_size) < 1 or workers < 0 or seed < 0:
            raise ValueError(
                f"batch_size is {batch_size}, eval_batch_size {eval_batch_size}, workers "
                f"{workers}, seed {seed}; expected at least 1, 1, 0 and 0"
            )
        self.val = val
        self.train = train
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.workers = workers
        self.augmentation = augmentation
        self.group_by_aspect_ratio = group_by_aspect_ratio
        self.seed = seed

    @property
    def task(self) -> Task:
        """What the datasets are for."""
        return self.val.task

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the foreground classes, in the order of the labels."""
        return self.val.classes

    def train_dataloader(self) -> TrainingLoader:
        """Shuffled, augmented batches; its ``state_dict`` restores its position exactly.

        Raises:
            ValueError: there is no training set.
        """
        if self.train is None:
            raise ValueError("there is no training set; give the data module 'train' as well")
        rank, world_size = rank_and_world_size()
        batches = ShuffledBatches(
            len(self.train),
            self.batch_size,
            seed=self.seed,
            groups=_lying(self.train) if self.group_by_aspect_ratio else None,
            rank=rank,
            world_size=world_size,
        )
        transform = to_float() if self.augmentation is None else self.augmentation.training()
        samples = AugmentedBatches(self.train, transform, seed=self.seed)
        with warnings.catch_warnings():  # torchdata 0.11 calls what torch 2.14 deprecates
            warnings.filterwarnings("ignore", message="'set_vital' is deprecated")
            return TrainingLoader(samples, sampler=batches, **self._loader_options())

    def val_dataloader(self) -> DataLoader[Any]:
        """This process's part of the validation set, in order."""
        rank, world_size = rank_and_world_size()
        batches = evaluation_batches(
            len(self.val), self.eval_batch_size, rank=rank, world_size=world_size
        )
        transform = to_float() if self.augmentation is None else self.augmentation.evaluation()
        samples = AugmentedBatches(self.val, transform)
        return DataLoader(samples, sampler=batches, **self._loader_options())

    def _loader_options(self) -> dict[str, Any]:
        """Whole batches come from the dataset, so the loader itself makes none."""
        return {
            "batch_size": None,
            "num_workers": self.workers,
            "persistent_workers": self.workers > 0,
            "pin_memory": torch.cuda.is_available(),
        }


def _lying(dataset: VisionDataset) -> list[int]:
    sizes = (dataset.image_size(index) for index in range(len(dataset)))
    return [int(width > height) for height, width in sizes]


def _check_alike(val: VisionDataset, train: VisionDataset | None) -> None:
    if train is None:
        return
    for what in ("task", "classes"):
        of_train, of_val = getattr(train, what), getattr(val, what)
        if of_train != of_val:
            raise ValueError(
                f"training and validation set differ in {what}: {of_train} and {of_val}; "
                "use two splits of one dataset"
            )
