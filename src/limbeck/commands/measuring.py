"""A model's score on labelled images, outside of any run."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from limbeck.commands.datasets import given_datasets
from limbeck.data import VisionDataset
from limbeck.data.augmentation import Transform
from limbeck.data.base import Task
from limbeck.data.loading import scaled
from limbeck.terminal import progress_bar
from limbeck.training.scoring import headline_of, make_metric, named_scores


def labelled_split(labelled: str, task: Task, classes: Sequence[str]) -> VisionDataset:
    """The labelled images that a model is measured on: the split "val", or the only one.

    Args:
        labelled: A folder of data, or a recipe (.yaml).
        task: The task of the model.
        classes: The names of its classes, in order. Empty: they are not known.

    Returns:
        The dataset, as it is annotated.

    Raises:
        ValueError: It has several splits, none of which is "val", or is for another task or other
            classes.
    """
    splits = given_datasets([labelled]).splits
    if "val" not in splits and len(splits) > 1:
        raise ValueError(
            f"--labelled {labelled} has the splits {', '.join(splits)}; expected val, or one "
            "alone. Give a recipe whose data.val are the images that are meant."
        )
    dataset = splits.get("val") or next(iter(splits.values()))
    if dataset.task != task or (classes and tuple(dataset.classes) != tuple(classes)):
        raise ValueError(
            f"--labelled {labelled} is for {dataset.task} of {', '.join(dataset.classes)}; the "
            f"student is for {task} of {', '.join(classes) or 'classes without names'}. Expected "
            "the same classes in the same order. Give other data."
        )
    return dataset


class Measure:
    """Measures models on labelled images, by the usual metric of their task.

    Args:
        dataset: The images and their targets.
        transform: What each image goes through before the model sees it.
        batch_size: The number of images that a model sees at once.
        device: Where the models are.

    Attributes:
        name: The name of the score.
    """

    def __init__(
        self, dataset: VisionDataset, transform: Transform, batch_size: int, device: torch.device
    ) -> None:
        self._samples = _Samples(dataset, transform)
        self._batches = DataLoader(self._samples, batch_size, collate_fn=list)
        self._device = device
        self._metric = make_metric("auto", dataset.task, dataset.classes)
        self._detects = dataset.task == "detection"
        self.name = headline_of(self._metric)

    @torch.inference_mode()
    def __call__(self, model: nn.Module, told: str) -> float:
        """Measure a model.

        Args:
            model: The model, in evaluation mode.
            told: What the progress bar calls it.

        Returns:
            The score.
        """
        with progress_bar(told, "{task.completed:.0f} of {task.total:.0f} images") as bar:
            shown = bar.add_task("", total=len(self._samples))
            for batch in self._batches:
                images = scaled([image.to(self._device) for image, _ in batch])
                targets: Any = [target for _, target in batch]
                if self._detects:
                    found = [{k: v.cpu() for k, v in each.items()} for each in model(images)]
                else:
                    found, targets = model(torch.stack(images)).cpu(), torch.tensor(targets)
                self._metric.update(found, targets)
                bar.advance(shown, len(batch))
        score = float(named_scores(self._metric)[self.name])
        self._metric.reset()
        return score


class _Samples(Dataset[tuple[Tensor, Any]]):
    """The samples of a dataset, whose images are as a model sees them."""

    def __init__(self, dataset: VisionDataset, transform: Transform) -> None:
        self.dataset, self.transform = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        image, target = self.dataset[index]
        return self.transform(image).as_subclass(Tensor), target
