"""The parts of a recipe that a comparison needs itself: the data that it scores on, the metric."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn
from torchmetrics import Metric

from limbeck.data import Images, VisionDataset
from limbeck.data.base import BadSampleError, Task
from limbeck.data.loading import scaled
from limbeck.data.sampling import Draw
from limbeck.recipe import Recipe, value_at
from limbeck.training.data import DataModule, StatedAugmentation
from limbeck.training.scoring import MetricName, MetricOfClasses, make_metric

NewMetric = Callable[[], Metric]


def data_of(recipe: Recipe) -> DataModule:
    """Build the data that a recipe states, with its training set if there is one.

    Args:
        recipe: The whole recipe.

    Returns:
        The data.

    Raises:
        ValueError: The recipe states no such data.
    """
    stated = recipe.get("data") or {}
    types = {
        "val": VisionDataset,
        "train": VisionDataset | None,
        "unlabelled": Images | None,
        "augmentation": StatedAugmentation,
    }
    built = _built(types, {key: stated.get(key) for key in types})
    plain = ("batch_size", "seed", "on_bad_sample", "unlabelled_share")
    return DataModule(**built, **{key: stated[key] for key in plain if key in stated}, workers=0)


def metric_of(recipe: Recipe, task: Task, classes: tuple[str, ...]) -> NewMetric:
    """What makes the metric of a recipe.

    Args:
        recipe: The whole recipe.
        task: The task of its data.
        classes: The names of their classes.

    Returns:
        A function that makes a new metric, which has seen nothing yet.
    """
    stated = value_at(recipe, "model.metric") or "auto"
    metric = _built({"metric": MetricName | MetricOfClasses}, {"metric": stated})["metric"]
    return lambda: make_metric(metric, task, classes)


def model_of(stated: Recipe) -> nn.Module:
    """Build a model as a recipe states it.

    Args:
        stated: The value of ``model.student`` or ``model.teacher``.

    Returns:
        The model.
    """
    built: nn.Module = _built({"model": nn.Module}, {"model": stated})["model"]
    return built


def batches_of(recipe: Recipe) -> int:
    """The number of batches in an epoch of a recipe's data; 0: it states no training images."""
    data = data_of(recipe)
    trains = data.datasets.keys() > {"validation"}
    return len(data.train_dataloader()) if trains else 0


def steps_of(recipe: Recipe, batches: int | None = None) -> int | None:
    """The number of optimizer steps that a recipe trains for on one process, or None: unknown.

    Args:
        recipe: The whole recipe.
        batches: The number of batches in an epoch of its data. Default (None): its data are built,
            and counted.

    Returns:
        The number of steps.
    """
    trainer = recipe.get("trainer") or {}
    if batches is None:
        batches = batches_of(recipe)
    limit = trainer.get("limit_train_batches")
    if isinstance(limit, int):
        batches = min(batches, limit)
    elif isinstance(limit, float):
        batches = int(batches * limit)
    an_epoch = -(-batches // (trainer.get("accumulate_grad_batches") or 1))
    epochs, steps = trainer.get("max_epochs") or -1, trainer.get("max_steps") or -1
    ends = [end for end in (epochs * an_epoch, steps) if end > 0]
    return min(ends, default=None)


class ScoredImages:
    """The images that a comparison scores on, as the models get them.

    Args:
        data: The data, whose validation set they are. Where it skips images that cannot be read,
            they are no part of them.
    """

    def __init__(self, data: DataModule) -> None:
        self.task: Task = data.task
        self.classes = data.classes
        self._samples = data.val_dataloader().dataset
        self._indices: Sequence[int] = range(len(data.val))
        if data.bad_samples:
            self._indices = [index for index in self._indices if _is_good(data.val, index)]

    def __len__(self) -> int:
        return len(self._indices)

    def image(self, index: int) -> Tensor:
        """One image, uint8 (3, H, W)."""
        batch = self._samples[[Draw(epoch=0, image=self._indices[index])]]
        pixels: Tensor = (scaled(batch.images[0]) * 255).round().to(torch.uint8)
        return pixels


def _is_good(images: VisionDataset, index: int) -> bool:
    try:
        images[index]
    except BadSampleError:
        return False
    return True


def _built(types: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    for name, kind in types.items():
        optional = values[name] is None
        parser.add_argument(f"--{name}", type=kind | None if optional else kind)
    built: dict[str, Any] = parser.instantiate(parser.parse_object(values)).as_dict()
    return built
