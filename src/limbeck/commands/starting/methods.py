"""Methods by their names, with what a pair of models needs of them."""

import difflib
import pkgutil
import re
from typing import Any

from limbeck.commands.starting.commented import Chosen, plain
from limbeck.commands.starting.named_model import Model
from limbeck.data.base import Task
from limbeck.landmarks import landmarks, resolve
from limbeck.methods import Method
from limbeck.tap import TapError

USUAL = {"detection": "FitNet", "classification": "KD"}

_WHY = {
    "FitNet": "FitNet compares maps by their squared difference over the level's variance; 2 "
    "gained where the student had learnt what it can.",
    "PKD": "PKD compares maps by correlation. 10 is published for detectors with one dense head, "
    "and was too much for light ones here: choose the weight with `limbeck tune`.",
    "FGD": "FGD compares maps inside and outside of objects. Its losses are sums over maps of 256 "
    "channels at 800 x 1333 px: choose the weight with `limbeck tune`.",
    "CWD": "CWD compares where each channel of the maps is large. 10 is published for dense heads.",
    "AT": "AT compares where the maps are large, over all channels.",
    "FineGrainedImitation": "It compares maps near objects. The weight depends on the pair: choose "
    "it with `limbeck tune`.",
    "HEAD": "HEAD gives the student a box head like its teacher's, which is left out afterwards.",
    "CrossKD": "CrossKD lets the teacher's head see the student's features.",
    "LD": "LD compares the distributions of which GFL's boxes are made.",
    "QueryKD": "QueryKD compares what the queries of two transformers say, and which of them.",
    "KD": "KD compares the classes' probabilities at a temperature of 4, with 0.9 of the weight.",
    "DKD": "DKD is KD with a weight of its own for the classes that are not the label.",
    "DIST": "DIST compares correlations of the probabilities; a batch needs 32 images or more.",
}
_TASKS: dict[Task, tuple[str, ...]] = {
    "detection": (
        *("FitNet", "PKD", "FGD", "CWD", "AT", "FineGrainedImitation"),
        *("HEAD", "CrossKD", "LD", "QueryKD"),
    ),
    "classification": ("KD", "DKD", "DIST", "FitNet", "AT"),
}
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "FitNet": {"weight": 2.0, "normalise": True},
    "PKD": {"weight": 10.0, "adapter": "conv"},
    "FGD": {"weight": 1.0},
    "CWD": {"weight": 10.0},
    "AT": {"weight": 1000.0},
    "FineGrainedImitation": {"weight": 0.001, "activation": None},
    "KD": {"temperature": 4.0, "weight": 0.9},
}
_ON_MAPS = ("FitNet", "PKD", "FGD", "CWD", "AT", "FineGrainedImitation")
_UNSURE = ["P3", "P4", "P5"]  # the maps of RT-DETR's and D-FINE's encoders


def distilled_by(name: str, task: Task, teacher: Model, student: Model) -> dict[str, Any]:
    """What a recipe states of a method between two models.

    Args:
        name: The name of the method, in upper or lower case.
        task: The task of the data.
        teacher: The teacher.
        student: The student.

    Returns:
        The keys ``methods`` and, where the labels are to count less, ``student_weight``.

    Raises:
        ValueError: There is no such method for the task, or the models share no places.
    """
    known = {each.lower(): each for each in _TASKS[task]}
    found = known.get(name.lower().replace("-", "").replace("_", ""))
    if found is None:
        near = difflib.get_close_matches(name.lower(), known, n=1)
        meant = f" Did you mean {known[near[0]]}?" if near else ""
        raise ValueError(
            f"--method is {name!r}; expected one of {', '.join(_TASKS[task])}, which limbeck new "
            f"can set up for {task}.{meant} Any other one goes into the recipe by hand, see "
            "https://limbeck.readthedocs.io/en/latest/methods/index.html."
        )
    arguments = dict(_ARGUMENTS.get(found, {}))
    if found in _ON_MAPS:
        arguments = {"places": _places(found, task, teacher, student)} | arguments
    stated: dict[str, Any] = {"class_path": f"limbeck.methods.{found}"}
    if arguments:
        stated["init_args"] = arguments
    _refuse_pair(found, stated, teacher, student)
    model: dict[str, Any] = {"methods": {found.lower(): Chosen(stated, _WHY[found])}}
    if found == "KD":
        why = "What is left of the weight for the labels."
        model["student_weight"] = Chosen(0.1, why)
    return model


def made_for(name: str, teacher: Model, student: Model) -> str | None:
    """The method that was made for such a pair, where the usual one is written; None: none was.

    Args:
        name: The method that is written.
        teacher: The teacher.
        student: The student.

    Returns:
        The name of the other method, or None.
    """
    if name != USUAL["detection"]:
        return None
    if teacher.form == student.form == "transformer":
        return "QueryKD"
    if student.kind not in ("RetinaNet", "FCOS", "GFL"):
        return None
    if teacher.kind == student.kind and _head(teacher) == _head(student):
        return "CrossKD"
    return "HEAD" if teacher.kind == "FasterRCNN" else None


def _head(model: Model) -> list[Any]:
    """What the features of one dense detector need to go through another one's head."""
    stated = plain(dict(model.arguments))
    return [stated.get(key) for key in ("levels", "fpn_channels", "head_depth", "num_classes")]


def _refuse_pair(name: str, stated: dict[str, Any], teacher: Model, student: Model) -> None:
    """Refuse a pair that lacks what a method reads; of a model on the hub nothing is known."""
    if teacher.built is None or student.built is None:
        return
    method: Method = pkgutil.resolve_name(stated["class_path"])(**stated.get("init_args", {}))
    try:
        method.connect(student.built, teacher.built)
        for model, taps in (
            (student.built, method.student_taps),
            (teacher.built, method.teacher_taps),
        ):
            for tap in taps.values():
                resolve(model, tap)
    except (ValueError, TapError) as error:
        raise ValueError(
            f"--method {name} is not for {teacher.word} as the teacher of {student.word}: {error}"
        ) from None


def _places(method: str, task: Task, teacher: Model, student: Model) -> list[str]:
    """The maps that both models have: of the pyramids up to P6, otherwise of the trunks."""
    if teacher.built is None or student.built is None:
        return _UNSURE
    shared = landmarks(teacher.built).keys() & landmarks(student.built).keys()
    pyramids = sorted(each for each in shared if re.fullmatch(r"P[2-6]", each))
    if pyramids and task == "detection":
        return pyramids
    trunks = sorted(each for each in shared if re.fullmatch(r"C[2-5]", each))
    found = trunks[-1:] if task == "classification" else [each for each in trunks if each != "C2"]
    if not found:
        raise ValueError(
            f"{method} compares maps, and {teacher.word} and {student.word} have none at the same "
            "place. Expected two networks with C3 to C5 or P3 to P5. Give another pair, or state "
            "the places by hand (`limbeck inspect` shows them)."
        )
    return found
