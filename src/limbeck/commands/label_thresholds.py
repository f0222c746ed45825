"""From which score on a teacher's detections become labels: measured on labelled images."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from limbeck.commands.datasets import given_datasets
from limbeck.commands.label_teacher import Teacher
from limbeck.commands.labelled import refuse_unnamed
from limbeck.commands.predicting import Loaded, Viewer, detect, image_loader
from limbeck.data import VisionDataset
from limbeck.data.base import BadSampleError, Task
from limbeck.data.contents import contents_of
from limbeck.data.table import ImageTable
from limbeck.frame import foreground_classes
from limbeck.metrics.thresholds import IOU, Threshold, best_thresholds
from limbeck.names import escaped
from limbeck.terminal import Table, say

log = logging.getLogger(__name__)


def labelled_images(
    data: str, option: str = "--labelled", task: Task = "detection"
) -> VisionDataset:
    """The labelled images that a model is measured on: a split "val", or the only one.

    Args:
        data: A folder of data, or a recipe.
        option: How the command line calls it, for messages.
        task: What they have to be for.

    Returns:
        The dataset, as it is annotated.

    Raises:
        ValueError: It has several splits, none of which is "val", or is for another task.
    """
    splits = given_datasets([data]).splits
    if "val" not in splits and len(splits) > 1:
        raise ValueError(
            f"{option} {data} has the splits {', '.join(splits)}; expected val, or one alone. "
            "Give a recipe whose data.val are the images that are meant."
        )
    dataset = splits.get("val") or next(iter(splits.values()))
    if dataset.task != task:
        expected = "images with boxes" if task == "detection" else "images of classes"
        raise ValueError(f"{option} {data} is for {dataset.task}; expected {expected}.")
    return dataset


def with_names(teacher: Teacher, dataset: VisionDataset | None, labelled: str | None) -> Teacher:
    """The teacher with names for its classes, which are those of the labelled images.

    Args:
        teacher: The teacher.
        dataset: The labelled images. None: there are none.
        labelled: What the user calls them, for messages.

    Returns:
        The teacher; where it knows no names of its own, with those of the labelled images.

    Raises:
        ValueError: Names, or their order, or their number, differ; or there are no names.
    """
    if dataset is None:
        refuse_unnamed(teacher.source, teacher.classes, "Give --labelled, whose names are taken")
        return teacher
    count = foreground_classes(teacher.model)
    if not teacher.classes and count in (None, len(dataset.classes)):
        log.warning(
            "%s does not say what its classes are called: they are taken to be those of %s, in "
            "their order.",
            teacher.source,
            labelled,
        )
        return replace(teacher, classes=dataset.classes)
    if teacher.classes != dataset.classes:
        own = ", ".join(map(escaped, teacher.classes)) or f"{count} without names"
        order = sorted(teacher.classes) == sorted(dataset.classes)
        raise ValueError(
            f"{teacher.source} has the classes {own}; --labelled {labelled} has "
            f"{', '.join(map(escaped, dataset.classes))}. Expected the same names in the same "
            f"order{', and the order differs' if order else ''}: labels go by it. State the "
            "classes of the labelled images as the teacher has them, or take another teacher."
        )
    return teacher


def thresholds_of(
    teacher: Teacher,
    dataset: VisionDataset | None,
    score: float | None,
    loading: Mapping[str, Any],
) -> dict[str, Any]:
    """Choose the lowest score of a label for each class, and say it.

    Args:
        teacher: The teacher.
        dataset: The labelled images. None: the stated score is that of all classes.
        score: The score that is stated, for classes without labelled objects. None: there is none.
        loading: How images are loaded, for :func:`image_loader`.

    Returns:
        The ``thresholds`` by class, as plain data, and the ``iou`` that they are chosen at.

    Raises:
        ValueError: Classes have no labelled object, and no score is stated for them; or no image
            could be looked at.
    """
    found = {} if dataset is None else _measured(teacher, dataset, loading)
    missing = [name for name in teacher.classes if name not in found]
    if missing and score is None:
        raise ValueError(
            f"the labelled images have no object of {', '.join(map(escaped, missing))}: no score "
            "can be chosen for it. Give --score, which is then taken for these classes alone, or "
            "other labelled images."
        )
    table = Table("class", "from score", "F1", "precision", "recall", "AP", "objects")
    thresholds: dict[str, dict[str, Any]] = {}
    for name in teacher.classes:
        each = found.get(name)
        thresholds[name] = {"score": score} if each is None else asdict(each)
        table.add_row(name, *_cells(each, score))
    if dataset is not None:
        say(table)
    unfound = [name for name, each in thresholds.items() if each["score"] is None]
    if unfound:
        log.warning(
            "No box of %s was right on the labelled images: none is written.",
            ", ".join(map(escaped, unfound)),
        )
    return {"thresholds": thresholds, "iou": IOU}


def _cells(threshold: Threshold | None, score: float | None) -> Sequence[str]:
    if threshold is None:
        return (f"{score:.3f}, as stated", "", "", "", "", "0")
    numbers = (threshold.f1, threshold.precision, threshold.recall, threshold.ap)
    lowest = "none" if threshold.score is None else f"{threshold.score:.3f}"
    return (lowest, *(f"{number:.3f}" for number in numbers), str(threshold.objects))


class _Labelled(Dataset[Loaded]):
    """The images of a dataset, with their paths for messages."""

    def __init__(self, dataset: VisionDataset, images: ImageTable, teacher: Teacher) -> None:
        self.dataset, self.images, self.transform = dataset, images, teacher.transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Loaded:
        path = self.images.path(index)
        try:
            image, _ = self.dataset[index]
            return Loaded(path, self.transform(image).as_subclass(Tensor))
        except (BadSampleError, ValueError) as error:  # which its transform raises
            return Loaded(path, None, str(error))


def _measured(
    teacher: Teacher, dataset: VisionDataset, loading: Mapping[str, Any]
) -> dict[str, Threshold]:
    table = contents_of(dataset).images
    images = _Labelled(dataset, table, teacher)
    viewer = Viewer(
        teacher.model, loading["device"], partial(detect, teacher.model, threshold=0.0), "teacher"
    )
    pairs = []
    seen = chain.from_iterable(viewer.through(image_loader(images, **loading), len(images)))
    for number, each in enumerate(seen):
        if each.image is not None:
            target = table[number].objects.target(number, dataset.image_size(number))
            pairs.append((each.answer, target))
    if not pairs:
        raise ValueError(
            f"{teacher.source} could be shown none of the {len(images)} labelled images, as is "
            "said above. Give others, or another teacher."
        )
    return best_thresholds(pairs, teacher.classes)
