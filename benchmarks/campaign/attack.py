"""One attack, and the words of the verbs that it goes through."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campaign import material
from campaign.sandbox import GIB, Outcome
from campaign.sound import Sound

Words = tuple[object, ...]
Check = Callable[[Path, Outcome], list[str]]
BAIT = "bait"


@dataclass(frozen=True)
class Hostile:
    """One attack.

    Attributes:
        name: What it is.
        point: Of issue 15.
        make: Writes its files into a folder, and returns the words after ``limbeck``.
        check: What else must hold after it.
        refused: Whether it has to be refused.
        room: Bytes that the process may take before it is stopped.
    """

    name: str
    point: int
    make: Callable[[Path], Words]
    check: Check | None = None
    refused: bool = False
    room: int = 4 * GIB


def student_with(sound: Sound, folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of the sound student with another card, whose checksum is right."""
    target = folder / "student"
    shutil.copytree(sound.student, target)
    card = json.loads((target / "student.json").read_text())
    made = change(card)
    text = made if isinstance(made, str) else json.dumps(card if made is None else made)
    (target / "student.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    return target


def read_by(verb: str, student: Path, sound: Sound) -> Words:
    """What reads a student: predict, inspect, or a recipe that has it for a teacher."""
    if verb == "predict":
        return "predict", student, sound.images / "a.png", "--output", student.parent / "out"
    if verb == "inspect":
        return "inspect", student
    return (
        *("validate", "--config", sound.folder / "run.yaml"),
        *("--model.teacher", "limbeck.models.load_student"),
        *("--model.teacher.init_args.folder", student),
    )


def validated(folder: Path, data: material.Recipe) -> Words:
    """A recipe that validates a detector on a dataset."""
    classes = {"KITTI": 3, "WIDERFace": 1}.get(data["class_path"].rpartition(".")[2], 3)
    stated = material.recipe(data, data, material.detector(num_classes=classes))
    return "validate", "--config", material.write_recipe(folder / "recipe.yaml", stated)


def predicted(sound: Sound, *paths: Path) -> Words:
    """The sound student on these pictures."""
    return "predict", sound.student, *paths, "--output", paths[0].parent / "out"
