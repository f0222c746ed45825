"""What of a run does not fit together: refused before it begins or, where it can be meant, said.

Each function looks at one kind of mistake. A ValueError refuses the run, and a sentence that is
returned is told to the user once.
"""

import os
from collections.abc import Iterator
from functools import cache
from inspect import signature
from typing import Any

from torch import nn
from torchmetrics import Metric

from limbeck.data import VOC, Concatenated, ImageFolder, Shapes, Split, VisionDataset
from limbeck.data.annotated import AnnotatedImages
from limbeck.data.base import BadSampleError
from limbeck.data.mixed import Unlabelled
from limbeck.data.sampling import rank_and_world_size
from limbeck.data.voc import PASCAL
from limbeck.frame import takes_list
from limbeck.methods.base import Method, class_difference
from limbeck.metrics.detections import TARGET, DetectionMetric
from limbeck.models import Classifier
from limbeck.models.build import LimbeckModel
from limbeck.pair import Pair
from limbeck.teachers import key_of, measured
from limbeck.training.data import DataModule

USUAL_FIELDS = {"iscrowd", "area"}  # which metrics do without, by the rules of COCO
FIRST = 10_000  # generated images that are compared


def doubts(pair: Pair, data: DataModule, metric: Metric, *, training: bool) -> list[str]:
    """Refuse what cannot be meant, and say what can.

    Args:
        pair: The student and its teacher.
        data: The data.
        metric: The metric that measures them.
        training: Whether the student is to be trained, not only measured.

    Returns:
        Sentences for the user.

    Raises:
        ValueError: Something does not fit.
    """
    found = [*unfit_validation_set(data), *missing_fields(data, metric)]
    if training:
        found += [*shared_images(data), *large_batches(data)]
        if data.train is not None:
            found += unfit_training_set(data)
    else:
        found += other_classes_of_student(pair.student, data)
    return found + other_classes(pair, data, training=training)


def refuse_other_data(pair: Pair, data: DataModule) -> None:
    """Refuse a student or a teacher that is not made for the data.

    Args:
        pair: The student and its teacher.
        data: The data that they see.

    Raises:
        ValueError: One of them is for the other task, or the student has another number of classes.
    """
    features = "a limbeck.models.FeatureTeacher for its features, "
    taught = {key_of(name): model for name, model in pair.every_teacher().items()}
    for key, model in ({"model.student": pair.student} | taught).items():
        if data.task == "classification" and takes_list(model):
            raise ValueError(
                f"the data is for classification, {key} is a {type(model).__name__}, which "
                "detects. Give a classifier, or a detection dataset."
            )
        if data.task == "detection" and isinstance(model, Classifier):
            raise ValueError(
                f"the data is for detection, {key} is a {type(model).__name__}, which "
                "classifies whole images. Give a detector, "
                f"{features if key in taught else ''}or a classification dataset."
            )
    student = pair.student
    count = getattr(student, "num_classes", len(data.classes))
    if isinstance(student, LimbeckModel) and count != len(data.classes):
        raise ValueError(
            f"model.student has num_classes={count}, the data has {len(data.classes)} classes: "
            f"{', '.join(data.classes[:10])}{', ...' if len(data.classes) > 10 else ''}. "
            f"{_how_to_agree(data)}"
        )


def _how_to_agree(data: DataModule) -> str:
    """What to do about another number of classes; VOC's layout takes PASCAL's where it can."""
    number = f"model.student.init_args.num_classes to {len(data.classes)}"
    parts = [(key, one) for name in ("train", "val") for key, one in _parts(data, name)]
    if data.classes != tuple(PASCAL) or not all(isinstance(one, VOC) for _, one in parts):
        return f"Set {number}."
    sets = [one for _, one in parts if isinstance(one, VOC)]
    labels = {label for one in sets for label in one.images.objects.labels.tolist()}
    there = sorted(data.classes[label - 1] for label in labels)
    if len(there) == len(data.classes):
        return f"Set {number}."
    keys = " and ".join(f"{key}.init_args.classes" for key, _ in parts)
    return (
        f"These are PASCAL VOC's, which this layout has where no classes are stated and every name "
        f"is one of them. The annotations have {len(there)}: set {keys} (classes: "
        f"[{', '.join(there)}]). Only PASCAL VOC itself has all "
        f"{len(data.classes)} (model.student.init_args.num_classes)."
    )


def other_classes_of_student(student: nn.Module, data: DataModule) -> list[str]:
    """Say that a student is measured on other classes than its own, or refuse another order.

    Args:
        student: The student, which may know the names of its classes.
        data: The data that it is measured on.

    Returns:
        A sentence, or none.

    Raises:
        ValueError: The classes are the same in another order, so that labels mean other classes.
    """
    difference = class_difference(student, data.classes)
    if difference is None:
        return []
    own: Any = getattr(student, "classes", None) or ()
    if sorted(own) == sorted(data.classes):
        raise ValueError(
            f"model.student knows the classes of data.val in another order: {difference} Expected "
            "one order, by which labels are counted. Give the data the order "
            f"{', '.join(own)}."
        )
    return [
        f"model.student was trained on other classes than those of data.val: {difference} Scores "
        "take the classes of one number for the same, whatever they are called."
    ]


def other_classes(pair: Pair, data: DataModule, *, training: bool) -> list[str]:
    """Say that a teacher's classes are not those of the data, or refuse to train with it."""
    return [
        sentence
        for name, teacher in pair.every_teacher().items()
        if (difference := class_difference(teacher, data.classes)) is not None
        for sentence in _of_other_classes(pair, name, difference, training=training)
    ]


def _of_other_classes(
    pair: Pair, teacher: str | None, difference: str, *, training: bool
) -> list[str]:
    key, everyone = key_of(teacher), pair.every_teacher()
    for name in pair.pupils(teacher):
        method = pair.method(name)
        if training and method.compares_classes:
            raise ValueError(
                f"{key} has other classes than the data: {difference} model.methods."
                f"{name} is a {type(method).__name__}, which compares them one by one. Give a "
                f"teacher of the same classes in the same order, or {_way_out(name, method)}."
            )
    if everyone[teacher] is not measured(everyone):
        return []  # nothing counts them as those of the data
    return [
        f"{key} has other classes than the data: {difference} Its score counts them as "
        "those of the data by their numbers. Expected the same classes in the same order; give "
        "such a teacher, unless its features are what the student learns from."
    ]


def _way_out(name: str, method: Method) -> str:
    """What a method can be told where its teacher has other classes."""
    if "other_classes" in signature(type(method)).parameters:
        return f"set model.methods.{name}.init_args.other_classes to true to take them as they are"
    return "choose a place before the heads, such as fpn"


def idle_teacher(pair: Pair) -> list[str]:
    """Say which teachers no method learns from."""
    return [
        f"{key_of(name)} is a {type(teacher).__name__}, but {_nobody(pair)}: "
        f"{'it is measured, and ' if teacher is measured(pair.every_teacher()) else ''}"
        "the student learns nothing from it. Expected one method at least; state "
        f"one, or leave {key_of(name)} out."
        for name, teacher in pair.every_teacher().items()
        if not pair.pupils(name)
    ]


def _nobody(pair: Pair) -> str:
    """Why no method learns from a teacher."""
    if not len(pair.methods):
        return "model.methods is empty"
    return "no method of model.methods learns from it (their argument teacher)"


def unlearnt_images(pair: Pair, data: DataModule) -> list[str]:
    """Refuse images without labels where a method needs labels; say where nothing learns from them.

    A plain student beside a distilled one may share its data, and sees the labelled images alone.
    """
    if data.unlabelled is None:
        return []
    count = f"data.unlabelled has {len(data.unlabelled)} images"
    if len(pair.methods) or data.train is None:
        pair.refuse_unlabelled(count)
        return []
    return [
        f"{count}, and model.methods is empty: nothing is learnt from images without labels, and "
        "they are left out. Expected a method that needs no labels; state one, or leave "
        "data.unlabelled out."
    ]


# -- datasets -------------------------------------------------------------------------------------


def unfit_training_set(data: DataModule) -> list[str]:
    """Refuse a training set without boxes, or opened for evaluation with what none can learn."""
    said = []
    for key, dataset in _parts(data, "train"):
        if not isinstance(dataset, AnnotatedImages):
            continue
        _refuse_no_boxes(key, dataset)
        if dataset.training:
            continue
        objects = dataset.images.objects
        crowds = objects.iscrowd != 0
        boxes = objects.boxes
        empty = (boxes[:, 2:] <= boxes[:, :2]).any(dim=1)
        advice = f"Set {key}.init_args.training to true"
        if (crowds | empty).any():
            first = dataset.images.image_of(int((crowds | empty).nonzero()[0]))
            path = dataset.images.path(first)
            raise ValueError(
                f"{key} has training: false, and {int(crowds.sum())} crowds and {int(empty.sum())} "
                f"boxes without area, first in {path}: expected a training set without. "
                f"{advice}, which leaves them out."
            )
        said.append(
            f"{key} was opened with training: false, as a set to evaluate on: boxes are not "
            f"clipped to their images, and boxes below a pixel stay. {advice}."
        )
    return said


def unfit_validation_set(data: DataModule) -> list[str]:
    """Refuse a validation set without boxes; say where it was opened for training."""
    said = []
    for key, dataset in _parts(data, "val"):
        if not isinstance(dataset, AnnotatedImages):
            continue
        _refuse_no_boxes(key, dataset)
        if dataset.training:
            said.append(
                f"{key} was opened with training: true: crowds, small boxes and images without "
                "boxes are left out, and scores are not those of the whole set. Set "
                f"{key}.init_args.training to false."
            )
    return said


def _refuse_no_boxes(key: str, dataset: AnnotatedImages) -> None:
    if not len(dataset.images.objects):
        raise ValueError(
            f"{key} has {len(dataset)} images and no box at all, first {dataset.images.path(0)}; "
            "expected one at least. Check its annotations."
        )


def shared_images(data: DataModule) -> list[str]:
    """Say that images of the validation set are trained on, too."""
    theirs = {name for _, name in _names(data.val)}
    said = []
    for key, dataset in _trained_on(data):
        common = theirs & {name for _, name in _names(dataset)}
        if common:
            said.append(
                f"{key} and data.val share images: {len(common)} of the {len(data.val)} for "
                f"validation are trained on, such as {min(common)}. Scores then say what was "
                "memorised, and best.ckpt is chosen by that. Expected other images; give data.val "
                "another split."
            )
    return said


def large_batches(data: DataModule) -> list[str]:
    """Say that a batch is to have more images than there are."""
    return [
        f"data.batch_size is {data.batch_size}, and {key} has {len(dataset)} images: a step has "
        f"{most} on each process at most. Expected {most} or fewer; set data.batch_size to that, "
        "and the learning rate with it."
        for key, dataset in _trained_on(data)
        if data.batch_size > (most := len(dataset) // rank_and_world_size()[1])
    ]


def _trained_on(data: DataModule) -> Iterator[tuple[str, VisionDataset]]:
    """The datasets that are trained on by their keys."""
    for key, dataset in (("data.train", data.train), ("data.unlabelled", data.unlabelled)):
        if dataset is not None:
            yield key, dataset


def missing_fields(data: DataModule, metric: Metric) -> list[str]:
    """Refuse a metric whose required fields the data do not have, and say what else it misses."""
    if not isinstance(metric, DetectionMetric):
        return []
    for key, dataset in _parts(data, "val"):
        fields = _fields(dataset)
        name = type(metric).__name__
        missing = [field for field in metric.required_fields if field not in fields]
        if fields and missing:
            raise ValueError(
                f"model.metric makes a {name}, which needs {', '.join(missing)} of every object; "
                f"{key} has {', '.join(sorted(fields))}{metric.remedy}, or choose another metric."
            )
        wanted = metric.optional_fields.keys() - fields - USUAL_FIELDS
        if fields and wanted:
            return [
                f"model.metric makes a {name}, which reads {', '.join(sorted(wanted))} of every "
                f"object; {key} is a {type(dataset).__name__} without, and they count as 0. "
                "Expected a dataset that states them; choose another metric, such as coco."
            ]
    return []


# -- what datasets hold ---------------------------------------------------------------------------


def _parts(data: DataModule, side: str) -> Iterator[tuple[str, VisionDataset]]:
    """The datasets of one side by their keys, those inside other datasets one by one."""
    dataset = data.train if side == "train" else data.val
    if dataset is not None:
        yield from _inside(f"data.{side}", dataset)


def _inside(key: str, dataset: VisionDataset) -> Iterator[tuple[str, VisionDataset]]:
    if isinstance(dataset, Split):
        yield from _inside(f"{key}.init_args.dataset", dataset.dataset)
    elif isinstance(dataset, Concatenated):
        for number, part in enumerate(dataset.datasets):
            yield from _inside(f"{key}.init_args.datasets[{number}]", part)
    else:
        yield key, dataset


def _names(dataset: VisionDataset) -> Iterator[tuple[int, str]]:
    """The position of each image, and what identifies it: its file, or how it is drawn."""
    real = cache(os.path.realpath)  # of folders, which are few
    if isinstance(dataset, Split):
        names = dict(_names(dataset.dataset))
        yield from ((i, names[j]) for i, j in enumerate(dataset.indices) if j in names)
    elif isinstance(dataset, Concatenated):
        begin = 0
        for part in dataset.datasets:
            yield from ((begin + i, name) for i, name in _names(part))
            begin += len(part)
    elif isinstance(dataset, AnnotatedImages):
        for number, file in enumerate(dataset.images.paths()):
            yield number, f"{real(file.parent)}/{file.name}"
    elif isinstance(dataset, Unlabelled):
        for number, path in enumerate(dataset.images.paths):
            folder, name = os.path.split(path)
            yield number, f"{real(folder)}/{name}"
    elif isinstance(dataset, ImageFolder):
        for number, path in enumerate(dataset.paths):
            folder, name = os.path.split(path)
            yield number, f"{real(folder)}/{name}"
    elif isinstance(dataset, Shapes):
        for number in range(min(len(dataset), FIRST)):
            drawn = f"Shapes of the seed {dataset.seed} and {dataset.size} px"
            yield number, f"image {number} of {drawn}"


def _fields(dataset: VisionDataset) -> set[str]:
    """The fields of a target. Empty: they are not known."""
    if isinstance(dataset, AnnotatedImages):
        return {*TARGET, *USUAL_FIELDS, *dataset.images.objects.attributes}
    try:
        _, target = dataset[0]
    except BadSampleError:  # which may be skipped when it is drawn
        return set()
    return set(target) if isinstance(target, dict) else set()
