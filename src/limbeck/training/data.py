"""The data of a run, as Lightning wants it: a training set, a validation set and their loaders."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch import Tensor

from limbeck.data import (
    Augmentation,
    ClassificationAugmentation,
    DetectionAugmentation,
    Images,
    ShuffleDetAugmentation,
    VisionDataset,
)
from limbeck.data.augmentation import Transform, unchanged
from limbeck.data.base import Task
from limbeck.data.loading import AugmentedBatches, scaled
from limbeck.data.mixed import BatchesOfBothKinds, MixedBatches, Unlabelled, UnlabelledBatches
from limbeck.data.sampling import (
    CALIBRATION,
    UNLABELLED,
    ShuffledBatches,
    calibration_batches,
    evaluation_batches,
    rank_and_world_size,
    sample_seed,
)
from limbeck.data.sizes import image_sizes
from limbeck.data.workers import belong_to_parent
from limbeck.guard import refuse_bad_indices, refuse_bad_targets, refuse_malformed
from limbeck.ranges import COUNT, Range, refuse_outside
from limbeck.training.loaders import EvaluationLoader, TrainingLoader

# A recipe may state the arguments of the first three without a class path.
StatedAugmentation = (
    DetectionAugmentation | ShuffleDetAugmentation | ClassificationAugmentation | Augmentation
)

_RANGES = {
    "batch_size": COUNT,
    "eval_batch_size": COUNT,
    "workers": Range(0),
    "seed": Range(0),
    "unlabelled_share": Range(0, 1, open=True),
}


class DataModule(LightningDataModule):
    """Loads a training set and a validation set of one task with one list of classes.

    Training batches follow ``limbeck.data.sampling.ShuffledBatches``: what a run sees is a function
    of the seed and the number of processes, whatever the number of workers, and a run that is
    resumed in the middle of an epoch sees what it would have seen. Validation goes through the
    images in their order, each on one process. The trainer has to be told
    ``use_distributed_sampler=False``.

    With ``unlabelled`` images, a share of the training batches has images without labels, whose
    targets are None; see :class:`limbeck.data.mixed.MixedBatches`. Order and augmentation are again
    a function of the seed alone, and resumption is as exact.

    Args:
        val: The validation set.
        train: The training set. None: there is none, which suits a run that only evaluates, or that
            trains on ``unlabelled`` images alone.
        unlabelled: Images without labels, for methods that need none. None: there are none.
        unlabelled_share: The share of the training batches that have unlabelled images, above 0 and
            up to 1. Without ``train`` all have.
        batch_size: The number of images in a training step, on each process.
        eval_batch_size: The number of images in a validation step, on each process. Default (None):
            ``batch_size``.
        workers: The number of processes that load each of the two sets; with 0 the main process
            loads.
        augmentation: What happens to the images: one of :mod:`limbeck.data`, or any other
            :class:`limbeck.data.Augmentation`, by its class path in a recipe. Default (None):
            nothing.
        group_by_aspect_ratio: Whether to keep upright and lying images in separate batches, which
            saves padding.
        seed: The number that decides order and augmentation of the training set.
        on_bad_sample: What happens where an image cannot be read, or its boxes do not fit. "error"
            ends the run; "skip" trains on the next good image of the set in its place, and leaves
            it out of validation. ``limbeck.training.skipped.SkippedSamples`` counts and lists them.

    Attributes:
        bad_samples: With "skip", the flags of the images of each of ``datasets`` that were skipped
            on this process so far, bool (N,) each; its loading workers set them.

    Raises:
        ValueError: The two sets differ in task or classes, the augmentation is for another task,
            or an argument is out of range.

    Example:
        >>> from limbeck.data import Shapes
        >>> from limbeck.training.data import DataModule
        >>> data = DataModule(Shapes(count=8), Shapes(count=64, seed=1), batch_size=4, workers=0)
        >>> images, targets = next(iter(data.train_dataloader()))
        >>> len(images), data.classes[0]
        (4, 'circle')
    """

    bad_samples: dict[str, Tensor]

    def __init__(
        self,
        val: VisionDataset,
        train: VisionDataset | None = None,
        *,
        unlabelled: Images | None = None,
        unlabelled_share: float = 0.5,
        batch_size: int = 16,
        eval_batch_size: int | None = None,
        workers: int = 2,
        augmentation: StatedAugmentation | None = None,
        group_by_aspect_ratio: bool = False,
        seed: int = 0,
        on_bad_sample: Literal["error", "skip"] = "error",
    ) -> None:
        super().__init__()
        if train is not None:
            refuse_unlike(train, val)
        _check_task(augmentation, val.task)
        if eval_batch_size is None:
            eval_batch_size = batch_size
        counts = {"batch_size": batch_size, "eval_batch_size": eval_batch_size}
        others = {"workers": workers, "seed": seed, "unlabelled_share": unlabelled_share}
        refuse_outside(_RANGES, {**counts, **others}, "data.")
        if on_bad_sample not in ("error", "skip"):
            raise ValueError(
                f"data.on_bad_sample is {on_bad_sample!r}; expected error or skip. Give one."
            )
        self.val = val
        self.train = train
        self.unlabelled = None if unlabelled is None else Unlabelled(unlabelled, val.task)
        self.unlabelled_share = unlabelled_share
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.workers = workers
        self.augmentation = augmentation
        self.group_by_aspect_ratio = group_by_aspect_ratio
        self.seed = seed
        self.bad_samples = {}
        if on_bad_sample == "skip":
            self.bad_samples = {name: _flags(dataset) for name, dataset in self.datasets.items()}

    @property
    def datasets(self) -> dict[str, VisionDataset]:
        """The sets by their purpose: "training" and "unlabelled", if there are, "validation"."""
        sets = {"training": self.train, "unlabelled": self.unlabelled, "validation": self.val}
        return {name: dataset for name, dataset in sets.items() if dataset is not None}

    @property
    def task(self) -> Task:
        """The task of the datasets."""
        return self.val.task

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the foreground classes, in the order of the labels."""
        return self.val.classes

    @property
    def has_labels(self) -> bool:
        """Whether there are training batches with labels."""
        mixed = self.unlabelled is not None
        return self.train is not None and not (mixed and self.unlabelled_share == 1)

    def leave_out_unlabelled(self) -> None:
        """Train on labelled images alone: there is no method that learns from others."""
        self.unlabelled = None
        self.bad_samples.pop("unlabelled", None)

    def train_dataloader(self) -> TrainingLoader:
        """Load shuffled and augmented batches.

        Returns:
            A loader whose ``state_dict`` restores its position exactly.

        Raises:
            ValueError: There is no training set, and there are no unlabelled images.
        """
        self._refuse_no_images()
        # A seed of its own, or the same numbers would be drawn for both sets.
        seeds = {"training": self.seed, "unlabelled": sample_seed(self.seed, 0, 0, UNLABELLED)}
        parts = [self._shuffled(name, seeds[name]) for name in seeds if name in self.datasets]
        order, samples = parts[0]
        if len(parts) == 1:
            return TrainingLoader(samples, sampler=order, **self._loader_options())
        of_unlabelled, unlabelled = parts[1]
        mixed = MixedBatches(order, of_unlabelled, self.unlabelled_share)
        both = BatchesOfBothKinds(samples, unlabelled)
        return TrainingLoader(both, sampler=mixed, **self._loader_options())

    def _shuffled(self, name: str, seed: int) -> tuple[ShuffledBatches, AugmentedBatches]:
        """The order of this process's batches of one set, and what makes them."""
        rank, world_size = rank_and_world_size()
        dataset = self.datasets[name]
        order = ShuffledBatches(
            len(dataset),
            self.batch_size,
            seed=seed,
            groups=self._lying(dataset) if self.group_by_aspect_ratio else None,
            rank=rank,
            world_size=world_size,
        )
        return order, self._batches(name, "training", seed, replace=True)

    def _batches(
        self,
        name: str,
        transform: Literal["training", "evaluation"],
        seed: int = 0,
        *,
        replace: bool = False,
    ) -> AugmentedBatches:
        """What makes batches of one of ``datasets``."""
        kind = UnlabelledBatches if name == "unlabelled" else AugmentedBatches
        return kind(
            self.datasets[name],
            *self._transforms(transform),
            seed=seed,
            bad=self.bad_samples.get(name),
            replace=replace,
        )

    def calibration_dataloader(
        self, images: int, transform: Literal["training", "evaluation"], step: int
    ) -> EvaluationLoader:
        """Load this process's part of some training images, for methods that are calibrated.

        Where there is a training set, they are labelled ones.

        Args:
            images: The number of images over all processes; at most all there are.
            transform: Whether the images are augmented as in training, or taken as in evaluation.
            step: The step of the run, which with the seed decides which images they are, and their
                augmentation.

        Returns:
            A loader of them.
        """
        self._refuse_no_images()
        name = "unlabelled" if self.train is None else "training"
        rank, world_size = rank_and_world_size()
        seed = sample_seed(self.seed, step, 0, CALIBRATION)
        count = len(self.datasets[name])
        batches = calibration_batches(
            count, self.batch_size, images, seed=seed, rank=rank, world_size=world_size
        )
        samples = self._batches(name, transform, seed)
        options = self._loader_options() | {"persistent_workers": False}
        return EvaluationLoader(samples, sampler=batches, **options)

    def val_dataloader(self) -> EvaluationLoader:
        """Load this process's part of the validation set, in its order."""
        rank, world_size = rank_and_world_size()
        batches = evaluation_batches(
            len(self.val), self.eval_batch_size, rank=rank, world_size=world_size
        )
        samples = self._batches("validation", "evaluation")
        return EvaluationLoader(samples, sampler=batches, **self._loader_options())

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Refuse labels of no class and boxes that are none, while they lie on the CPU.

        Args:
            batch: The images and their targets, of any of the loaders.
            dataloader_idx: The number of the loader, of which there is one.

        Returns:
            The same batch.

        Raises:
            ValueError: The dataset, or the augmentation, made targets that are not as documented.
        """
        images, targets = batch
        detects = self.task == "detection" and targets is not None
        refuse_malformed(images, targets, detects=detects, raw=False, scaled=False)
        if targets is None:
            return batch
        if detects:
            training = self.trainer is not None and self.trainer.training
            refuse_bad_targets(targets, len(self.classes), training=training)
        else:
            refuse_bad_indices(targets, (len(images), len(self.classes)))
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Scale images that are uint8 to [0, 1], on the device.

        Args:
            batch: The images and their targets, of any of the loaders.
            dataloader_idx: The number of the loader, of which there is one.

        Returns:
            The batch with float32 images, or with those of a trainer's own precision.
        """
        images = scaled(batch.images)
        if self.trainer is not None:
            precision = self.trainer.precision_plugin
            # Of the class: limbeck's module spares targets, for which it changes the instance.
            images = type(precision).convert_input(precision, images)
        return batch._replace(images=images)

    def _refuse_no_images(self) -> None:
        if self.train is None and self.unlabelled is None:
            raise ValueError(
                "data.train is missing: there is nothing to train on. Expected a dataset beside "
                "data.val. Give it."
            )

    def _transforms(
        self, kind: Literal["training", "evaluation"]
    ) -> tuple[Transform, Transform | None]:
        """The transform of samples, and that of whole batches, if there is one."""
        stated = self.augmentation
        if stated is None:
            return unchanged, None
        if kind == "evaluation":
            return stated.evaluation(), None
        return stated.training(), stated.training_batch()

    def _loader_options(self) -> dict[str, Any]:
        """The options of every loader; it makes no batches, as whole ones come from the dataset."""
        return {
            "batch_size": None,
            "num_workers": self.workers,
            "persistent_workers": self.workers > 0,
            "pin_memory": torch.cuda.is_available(),
            "worker_init_fn": belong_to_parent,
            # Or each iteration draws from the global state, which a resumed run would notice.
            "generator": torch.Generator(),
        }

    def _lying(self, dataset: VisionDataset) -> list[int]:
        """The group of each image: 1 where it is wider than high, otherwise 0."""
        sizes, unreadable = image_sizes(dataset, range(len(dataset)))
        if unreadable and not self.bad_samples:
            raise unreadable[0]
        lying: list[int] = (sizes[:, 1] > sizes[:, 0]).int().tolist()
        return lying


def _flags(dataset: VisionDataset) -> Tensor:
    """A flag for each image, bool (N,), in memory that is shared with the loading workers."""
    flags: Tensor = torch.zeros(len(dataset), dtype=torch.bool).share_memory_()  # type: ignore[no-untyped-call]
    return flags


def _check_task(augmentation: Augmentation | None, task: Task) -> None:
    if augmentation is not None and augmentation.task != task:
        raise ValueError(
            f"data.augmentation is a {type(augmentation).__name__}, which is for "
            f"{augmentation.task}, but the datasets are for {task}. Give an augmentation for "
            f"{task}, such as limbeck.data.{task.capitalize()}Augmentation."
        )


def refuse_unlike(
    first: VisionDataset, second: VisionDataset, names: tuple[str, str] = ("data.train", "data.val")
) -> None:
    """Refuse two datasets that are to go together, and do not have the same classes.

    Args:
        first: The one dataset.
        second: The other.
        names: What messages call them.

    Raises:
        ValueError: They are for other tasks, or have other classes, or another order of them.
    """
    if first.task != second.task:
        raise ValueError(
            f"{names[0]} is for {first.task}, and {names[1]} for {second.task}; expected two "
            "datasets of one task. Give two splits of one dataset."
        )
    if first.classes != second.classes:
        sides = {names[0]: first.classes, names[1]: second.classes}
        raise ValueError(
            f"{names[0]} has {len(first.classes)} classes and {names[1]} {len(second.classes)}, "
            f"which differ{_difference(sides)}. Expected the same classes in the same order. Give "
            "two splits of one dataset, with all classes in each."
        )


def _difference(sides: Mapping[str, Sequence[str]]) -> str:
    """Which classes only one of two sets has, as a part of a sentence."""
    one, other = sides.values()
    only = [[name for name in a if name not in b] for a, b in ((one, other), (other, one))]
    said = [
        f"only {side} has {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
        for side, names in zip(sides, only, strict=True)
        if names
    ]
    orders = f"their order is {', '.join(one[:5])} there, {', '.join(other[:5])} here"
    return f": {' and '.join(said) or orders}"
