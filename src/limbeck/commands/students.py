"""What users mean by a student: its folder, that of its run, or a file of ``limbeck export``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.data.augmentation import Transform, from_recipe, unchanged
from limbeck.data.base import Task
from limbeck.exported import ExportedModel
from limbeck.exported.description import beside
from limbeck.frame import Extent, takes_list
from limbeck.models.card import CARD
from limbeck.models.loading import read_student, student_of_files


@dataclass(frozen=True)
class Student:
    """A student, and what is known of it.

    Attributes:
        source: What the user gave.
        model: The student, in evaluation mode, on the CPU; an :class:`ExportedModel` where a file
            was given.
        task: What it is for.
        classes: The names of its classes, in the order of the labels; empty where it has none.
        licence: The licence of the weights that it began with. None: it is not known.
        metadata: What else was kept, as plain JSON values that are not checked.
        transform: What images go through before it sees them.
    """

    source: Path
    model: nn.Module
    task: Task
    classes: tuple[str, ...]
    licence: str | None
    metadata: Mapping[str, Any]
    transform: Transform


def student_of(source: Path, *, trust: bool = False, task: Task | None = None) -> Student:
    """Load the student that a path stands for.

    Args:
        source: A student's folder, a run's folder, or a file of ``limbeck export``.
        trust: Whether to build a student that is not limbeck's, torchvision's or timm's, or to open
            a file of torch_export or torchscript. Their code then runs.
        task: What it has to be for. Default (None): anything.

    Returns:
        The student.

    Raises:
        FileNotFoundError: It is none of these.
        ImportError: The runtime of the file is not installed.
        ValueError: A file is damaged, or needs trust.
    """
    if source.is_file():
        exported = ExportedModel(source, trust=trust)
        said = exported.description
        path, facts = beside(source), (said.classes, said.licence, said.metadata)
        model: nn.Module = exported
    else:
        run = source / "student"
        folder = run if (run / CARD).is_file() and not (source / CARD).is_file() else source
        card, tensors = read_student(folder)  # once: on the hub, they may be others by then
        model = student_of_files(card, tensors, trust=trust)
        path, facts = card.path, (card.classes, card.licence, card.metadata)
    found: Task = "detection" if takes_list(model) else "classification"
    try:
        transform = evaluation_transform(facts[2], trust=trust, task=task or found)
    except ValueError as error:
        raise ValueError(f"{path}: metadata.augmentation: {error}") from None
    return Student(source, model, found, *facts, transform)


def measured_at(student: Student) -> Extent | None:
    """The (height, width) to which a student's augmentation brings every image.

    Args:
        student: The student.

    Returns:
        The size in pixels. None: it varies with the image.
    """
    probes = [
        torch.zeros(3, 300, 400, dtype=torch.uint8),
        torch.zeros(3, 400, 300, dtype=torch.uint8),
    ]
    sizes = {(int(h), int(w)) for h, w in (student.transform(each).shape[-2:] for each in probes)}
    return sizes.pop() if len(sizes) == 1 else None


def evaluation_transform(
    metadata: Mapping[str, Any], *, trust: bool = False, task: Task | None = None
) -> Transform:
    """What the validation images went through when a student was measured.

    Args:
        metadata: What the student's card says under this name.
        trust: Whether to build an augmentation that is not limbeck's own, whose code then runs.
        task: The task of the student, for which an augmentation has to be. Default (None): any.

    Returns:
        A transform of images (3, H, W), which it gives as uint8, or as float32 in [0, 1].

    Raises:
        ValueError: The augmentation is not trusted, is for another task, or cannot be built.
    """
    stated = metadata.get("augmentation")
    if not stated or not isinstance(stated, dict):
        return unchanged
    if "class_path" not in stated:  # so it was once written
        if metadata.get("task") != "classification":
            return unchanged
        stated = {"class_path": "limbeck.data.ClassificationAugmentation", "init_args": stated}
    return from_recipe(stated, trust=trust, task=task).evaluation()
