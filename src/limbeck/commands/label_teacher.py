"""A teacher that labels images: a student, that of a run, or the teacher of a recipe."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from limbeck.commands.labelled import SameSize
from limbeck.commands.stated import parts_of
from limbeck.commands.students import student_of
from limbeck.data.augmentation import Transform, unchanged
from limbeck.exported import ExportedModel
from limbeck.frame import takes_list
from limbeck.landmarks import unwrap
from limbeck.models.card import CARD
from limbeck.texts import YAML_SUFFIXES


@dataclass(frozen=True)
class Teacher:
    """A detector, and what is known of it.

    Attributes:
        source: What the user gave.
        model: The detector, in evaluation mode, on the CPU.
        classes: The names of its classes, in the order of the labels; empty where it has none.
        transform: What images go through before it sees them, which changes the size of none.
        sha256: A checksum of its weights, or of all files of an exported one.
    """

    source: str
    model: nn.Module
    classes: tuple[str, ...]
    transform: Transform
    sha256: str


def teacher_of(source: Path, *, trust: bool = False) -> Teacher:
    """Load the detector that a path stands for.

    Args:
        source: A student's folder, a run's folder, a file of ``limbeck export``, or a recipe
            (.yaml) with a teacher.
        trust: Whether to build a student that is not limbeck's, torchvision's or timm's, or to open
            a file of torch_export or torchscript. Their code then runs.

    Returns:
        The detector.

    Raises:
        FileNotFoundError: It is none of these.
        ValueError: The recipe has no teacher, or it is no detector.
    """
    if source.suffix in YAML_SUFFIXES:
        return _of_recipe(source)
    folders = (source, source / "student")
    if not source.is_file() and not any((folder / CARD).is_file() for folder in folders):
        raise FileNotFoundError(
            f"{source} holds no {CARD}, nor does {source / 'student'}; expected a "
            "student's folder, a run's folder, a file of `limbeck export`, or a recipe (.yaml). "
            "Give one of them."
        )
    found = student_of(source, trust=trust)
    _refuse_classifier(found.model, source)
    return _teacher(source, found.model, found.classes, found.transform)


def _of_recipe(recipe: Path) -> Teacher:
    module, data = parts_of([str(recipe)])
    if module.measured is None:
        raise ValueError(
            f"{recipe} has no teacher that predicts; expected a recipe with one, or the folder of "
            "a student or a run. Give one of them."
        )
    model = unwrap(module.measured).eval()
    _refuse_classifier(model, recipe)
    transform = unchanged if data.augmentation is None else data.augmentation.evaluation()
    return _teacher(recipe, model, data.classes, transform)


def _teacher(
    source: Path, model: nn.Module, classes: tuple[str, ...], transform: Transform
) -> Teacher:
    same_size = SameSize(str(source), transform)
    return Teacher(str(source), model, classes, same_size, checksum(model))


def _refuse_classifier(model: nn.Module, source: Path) -> None:
    if not takes_list(model):
        raise ValueError(
            f"{source} is a classifier ({type(model).__name__}); expected a detector. Methods for "
            "classifiers need no labels: state the images as data.unlabelled."
        )


def checksum(model: nn.Module) -> str:
    """A checksum of the names and the values of a model's tensors, or of all its exported files."""
    digest = hashlib.sha256()
    if isinstance(model, ExportedModel):
        for path in model.files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(-1).numpy().tobytes())
    return digest.hexdigest()
