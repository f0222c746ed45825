"""The artefact: a folder that holds a student, which loads without limbeck where that can be.

``student.safetensors`` holds the plain network's tensors under torchvision's or timm's own names;
``student.json`` says how to build the network, its classes, its input, and a checksum.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from limbeck.checkpoints.tensors import Tensors
from limbeck.landmarks import unwrap
from limbeck.models.build import Build, LimbeckModel
from limbeck.models.state_dicts import load_strictly

FORMAT = 1
WEIGHTS = "student.safetensors"
CARD = "student.json"


def save_student(
    model: nn.Module,
    folder: str | Path,
    *,
    build: Build | None = None,
    classes: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Keep ``model`` in ``folder``: its weights, and how to build it.

    Each file appears whole or not at all, so a stop in between never leaves a torn one.

    Args:
        model: one of limbeck's models, or any module if ``build`` is given; a wrapper of DDP or
            ``torch.compile`` is taken off.
        folder: made where it is missing; a student that is there is replaced.
        build: how to build ``model``; limbeck's own models know that themselves.
        classes: names of the foreground classes, in order.
        metadata: anything else worth keeping, plain JSON values.

    Raises:
        ValueError: No build is known, or the build makes another network than ``model``, or there
            are not as many names as classes.
    """
    model = unwrap(model)
    build = build or getattr(model, "build", None)
    if not isinstance(build, Build):
        raise ValueError(
            f"how to build {type(model).__name__} is not known, so it could not be loaded again. "
            "Pass build=Build(class_path, init_args)."
        )
    _check_classes(model, classes)
    tensors = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in _tensors(model).items()}
    _check_build(build, tensors)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / f"{WEIGHTS}.part")
    card = _card(model, build, classes, _sha256(folder / f"{WEIGHTS}.part"), metadata or {})
    (folder / f"{CARD}.part").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    for name in (WEIGHTS, CARD):
        (folder / f"{name}.part").replace(folder / name)


def load_student(folder: str | Path, *, trust: bool = False) -> nn.Module:
    """The student in ``folder``, on the CPU, in evaluation mode.

    Args:
        folder: what :func:`save_student` wrote.
        trust: build classes other than limbeck's, torchvision's and timm's, too: their code runs.

    Raises:
        FileNotFoundError: There is no student in ``folder``.
        ValueError: The file is damaged, of a later format, or does not fit the network.
    """
    card, tensors = read_student(folder)
    build = Build(**card["build"])
    model = build.make(trust=trust)
    part = model.plain() if isinstance(model, LimbeckModel) else model
    advice = f"{CARD} and {WEIGHTS} are not of one student. Save the student anew."
    load_strictly(part, tensors, str(Path(folder) / WEIGHTS), advice)
    if not hasattr(model, "build"):
        model.build = build  # type: ignore[assignment]  # a plain attribute
    if card["classes"]:
        model.classes = tuple(card["classes"])  # type: ignore[assignment]  # a plain attribute
    return model.eval()


def read_student(folder: str | Path) -> tuple[dict[str, Any], Tensors]:
    """What ``student.json`` says, and the tensors, after the checksum was compared."""
    folder = Path(folder)
    if not (folder / CARD).is_file() or not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"{folder} holds no student: expected {CARD} and {WEIGHTS} in it.")
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder / CARD} is no JSON ({error}). Save the student anew.") from None
    if card.get("format") != FORMAT:
        raise ValueError(
            f"{folder / CARD} has format {card.get('format')!r}, expected {FORMAT}. "
            "Load it with the version of limbeck that wrote it, or a later one."
        )
    if _sha256(folder / WEIGHTS) != card["weights"]["sha256"]:
        raise ValueError(
            f"{folder / WEIGHTS} is not the file that {CARD} describes (its sha256 differs): "
            "damaged, or of another run. Save the student anew."
        )
    return card, load_file(folder / WEIGHTS)


def _card(
    model: nn.Module,
    build: Build,
    classes: Sequence[str],
    sha256: str,
    metadata: Mapping[str, Any],
) -> dict[str, Any]:
    own = model if isinstance(model, LimbeckModel) else None
    return {
        "format": FORMAT,
        "build": {"class_path": build.class_path, "init_args": build.init_args},
        "classes": list(classes),
        "input": {
            "images": "RGB, float, 0 to 1",
            "mean": build.init_args.get("mean"),
            "std": build.init_args.get("std"),
        },
        "without_limbeck": own and own.without_limbeck(),
        "weights": {"file": WEIGHTS, "sha256": sha256},
        "versions": {n: importlib.metadata.version(n) for n in ("limbeck", "torch", "torchvision")},
        "metadata": dict(metadata),
    }


def _tensors(model: nn.Module) -> Tensors:
    return (model.plain() if isinstance(model, LimbeckModel) else model).state_dict()


def _check_classes(model: nn.Module, classes: Sequence[str]) -> None:
    expected = getattr(model, "num_classes", None)
    if classes and expected is not None and len(classes) != expected:
        raise ValueError(
            f"classes has {len(classes)} names, the model has num_classes={expected}. "
            "Name each foreground class once, in order."
        )


def _check_build(build: Build, tensors: Tensors) -> None:
    with torch.random.fork_rng(devices=[]):  # initialising a copy must not disturb a training run
        made = _tensors(build.make(trust=True))
    differing = sorted(_shapes(made) ^ _shapes(tensors))
    if differing:
        raise ValueError(
            f"{build.class_path} with the arguments in `build` makes another network: "
            f"{differing[:4]} differ. Pass the build that makes this model."
        )


def _shapes(tensors: Tensors) -> set[tuple[str, tuple[int, ...]]]:
    # Frozen normalisations have no counter, and every loader takes or fills it.
    return {(k, tuple(v.shape)) for k, v in tensors.items() if "num_batches_tracked" not in k}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
