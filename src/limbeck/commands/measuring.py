"""A model's score on labelled images, outside of any run."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from limbeck.commands.label_thresholds import labelled_images
from limbeck.data import VisionDataset
from limbeck.data.augmentation import Transform
from limbeck.data.base import BadSampleError, Task
from limbeck.data.loading import scaled
from limbeck.terminal import progress_bar
from limbeck.training.scoring import headline_of, make_metric, named_scores

log = logging.getLogger(__name__)

Sample = tuple[Tensor, Any]  # an image (3, H, W) and its target


def labelled_split(labelled: str, option: str, task: Task, classes: Sequence[str]) -> VisionDataset:
    """The labelled images that a model is measured on: the split "val", or the only one.

    Args:
        labelled: A folder of data, or a recipe (.yaml).
        option: How the command line calls it, for messages.
        task: The task of the model.
        classes: The names of its classes, in order. Empty: they are not known.

    Returns:
        The dataset, as it is annotated.

    Raises:
        ValueError: It has several splits, none of which is "val", or is for another task or other
            classes.
    """
    dataset = labelled_images(labelled, option, task)
    if classes and tuple(dataset.classes) != tuple(classes):
        raise ValueError(
            f"{option} {labelled} has the classes {', '.join(dataset.classes)}; the student has "
            f"{', '.join(classes)}. Expected the same ones in the same order. Give other data."
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
        name: The name of the score that a model is judged by.
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
    def __call__(self, model: nn.Module, told: str) -> dict[str, float]:
        """Measure a model.

        Args:
            model: The model, in evaluation mode.
            told: What the progress bar calls it.

        Returns:
            The scores by their names.
        """
        with progress_bar(told, "{task.completed:.0f} of {task.total:.0f} images") as bar:
            shown = bar.add_task("", total=len(self._samples))
            for batch in self._batches:
                read = [each for each in batch if each is not None]
                if read:
                    self._update(model, read)
                bar.advance(shown, len(batch))
        scores = {name: float(value) for name, value in named_scores(self._metric).items()}
        self._metric.reset()
        return scores

    def _update(self, model: nn.Module, batch: Sequence[Sample]) -> None:
        images = scaled([image.to(self._device) for image, _ in batch])
        targets: Any = [target for _, target in batch]
        if self._detects:
            found = [{name: v.cpu() for name, v in each.items()} for each in model(images)]
            self._metric.update(found, targets)
        else:
            sizes = {image.shape for image in images}
            batches = [torch.stack(images)] if len(sizes) == 1 else [each[None] for each in images]
            logits = torch.cat([model(batch).cpu() for batch in batches])
            self._metric.update(logits, torch.tensor(targets))


class _Samples(Dataset[Sample | None]):
    """The samples as a model sees them; None where one cannot be read, which is logged."""

    def __init__(self, dataset: VisionDataset, transform: Transform) -> None:
        self.dataset, self.transform = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample | None:
        try:
            image, target = self.transform(*self.dataset[index])
        except BadSampleError as error:
            log.error("%s", error)
            return None
        return image.as_subclass(Tensor), target
