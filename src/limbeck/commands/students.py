"""The model that ``limbeck predict`` and ``limbeck label`` look at images with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.data.augmentation import Transform, from_recipe, unchanged
from limbeck.data.base import Task
from limbeck.frame import takes_list
from limbeck.models import load_student
from limbeck.models.card import read_card


@dataclass(frozen=True)
class Student:
    """An exported student, and what its card says of it.

    Attributes:
        model: The model, in evaluation mode, on the CPU.
        task: What it is for.
        classes: The names of its classes, in the order of the labels; empty where it has none.
        transform: What images go through before it sees them.
    """

    model: nn.Module
    task: Task
    classes: tuple[str, ...]
    transform: Transform


def student_of(folder: Path, *, trust: bool = False) -> Student:
    """Load the student that a folder holds, with what its images have to go through.

    Args:
        folder: The folder, as `limbeck fit` exports it.
        trust: Whether to build a student that is not limbeck's, torchvision's or timm's, whose code
            then runs.

    Returns:
        The student.

    Raises:
        FileNotFoundError: There is no student in the folder.
        ValueError: The student cannot be loaded, or its augmentation cannot be built.
    """
    model, card = load_student(folder, trust=trust), read_card(folder)
    task: Task = "detection" if takes_list(model) else "classification"
    try:
        transform = evaluation_transform(card.metadata, trust=trust, task=task)
    except ValueError as error:
        raise ValueError(f"{card.path}: metadata.augmentation: {error}") from None
    return Student(model, task, card.classes, transform)


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
