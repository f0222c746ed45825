"""Models in folders: of students, of runs, and of transformer detectors."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from limbeck.commands.starting.commented import Chosen
from limbeck.commands.starting.detectors import form_in_libreyolo, transformer
from limbeck.commands.starting.measured import Measured
from limbeck.commands.starting.named_model import Form, Model
from limbeck.models.card import CARD, read_card
from limbeck.models.detection.detr.configuration import licence_of, names_of
from limbeck.models.detection.libreyolo.libre_yolo import family_and_size
from limbeck.models.hub import CONFIG


def in_folder(word: str, path: Path, data: Measured, size: Any) -> Model:
    """The student that a folder or a run's folder has, or a transformer detector.

    Args:
        word: What it was named by.
        path: The folder.
        data: What the data are like.
        size: The size of images, as :func:`limbeck.commands.starting.models.named` takes it.

    Returns:
        The model.

    Raises:
        ValueError: There is none in the folder, or it is for other data.
    """
    for folder in (path, path / "student"):
        if (folder / CARD).is_file():
            return _student(word, folder.resolve(), data)
    if (path / CONFIG).is_file():
        _refuse_other_task("detection", word, data)
        licence = licence_of(str(path)) or "not said in the folder"
        why = f"The folder's own weights. Their licence: {licence}. Nothing is downloaded."
        where = str(path.resolve())
        made = transformer(word, where, data, size, Chosen(where, why), hub=False)
        return replace(made, ready=_learnt(word, path.resolve(), data))
    raise ValueError(
        f"{word} has neither a {CARD}, as `limbeck fit` writes it, nor a {CONFIG}, as "
        "save_pretrained writes it. Expected the folder of a student, of a run or of a "
        "transformer detector."
    )


def _student(word: str, folder: Path, data: Measured) -> Model:
    card = read_card(folder)
    network = card.network()
    if not network.class_path.startswith("limbeck."):
        raise ValueError(
            f"{word} holds a {network.class_path}; expected a class of limbeck's, whose arguments "
            "are known. Name another model here, and then state `class_path: "
            "limbeck.models.load_student` with this folder in the recipe."
        )
    kind = network.class_path.rpartition(".")[2]
    _refuse_other_task("classification" if kind == "Classifier" else "detection", word, data)
    why = f"The weights of {word}. Nothing is downloaded."
    arguments = {n: v for n, v in network.init_args.items() if v is not None}
    if card.classes:
        _check_classes(word, card.classes, data.classes, same_number=False)
        ready = _named_alike(word, card.classes)
    else:
        _refuse_other_number(word, arguments.get("num_classes"), data)
        ready = _unnamed(word, data)
    form: Form = "pyramid"
    if kind == "Classifier":
        form = "classifier"
    elif kind == "HuggingFaceDetector":
        form = "transformer"
    elif kind == "LibreYOLODetector":
        form = form_in_libreyolo(family_and_size(arguments["network"])[0])
    elif "image_size" in arguments:
        form = "fixed"
    return Model(
        word,
        network.class_path,
        arguments | {"weights": Chosen(str(folder), why)},
        form,
        ready=ready,
    )


def _learnt(word: str, folder: Path, data: Measured) -> str | None:
    """Why the detector in a folder knows the classes of the data, or None where it has others."""
    labels = tuple(names_of(str(folder)))
    if len(labels) != len(data.classes):
        return None  # of another dataset, such as COCO: its layers of classes are trained anew
    if all(re.fullmatch(r"LABEL_\d+", label) for label in labels):
        return _unnamed(word, data)
    if not _check_classes(word, labels, data.classes, same_number=True):
        return None
    return _named_alike(word, labels)


def _named_alike(word: str, classes: Sequence[str]) -> str:
    return f"{word} has learnt the classes of these data, in their order: {_told(classes)}."


def _unnamed(word: str, data: Measured) -> str:
    return (
        f"{word} has as many classes as these data, and does not name them: see that their order "
        f"is {_told(data.classes)}."
    )


def _refuse_other_number(word: str, count: Any, data: Measured) -> None:
    """Refuse a model without names of classes that has another number of them."""
    if count != len(data.classes):
        raise ValueError(
            f"{word} has {count} classes, without names; the data have {len(data.classes)}: "
            f"{_told(data.classes)}. Expected the same. Give the folder of another model, or name "
            "a network, which is trained first."
        )


def _check_classes(
    word: str, theirs: Sequence[str], ours: Sequence[str], *, same_number: bool
) -> bool:
    """Whether classes are the same in the same order; names in another order are refused."""
    if tuple(theirs) == tuple(ours):
        return True
    if sorted(theirs) == sorted(ours):
        raise ValueError(
            f"{word} has learnt the classes {_told(theirs)}, and the data have them in the order "
            f"{_told(ours)}. Expected one order, or each would be taught as another. State the "
            "classes of the data in the model's order (such as names in data.yaml)."
        )
    if same_number:
        return False
    raise ValueError(
        f"{word} has learnt the classes {_told(theirs)}; the data have {_told(ours)}. Expected the "
        "same. Give the folder of another model, or name a network, which is trained first."
    )


def _refuse_other_task(task: str, word: str, data: Measured) -> None:
    if task != data.task:
        raise ValueError(
            f"{word} is for {task}, and the data are for {data.task}. Give another model."
        )


def _told(names: Sequence[str]) -> str:
    more = len(names) - 8
    return ", ".join(names[:8]) + (f" and {more} more" if more > 0 else "")
