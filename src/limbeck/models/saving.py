"""The artefact: a folder that holds a student, and loads without limbeck where that is possible.

``student.safetensors`` holds the tensors of the plain network under the names that torchvision or
timm give them. ``student.json`` says how the network is built, what its classes and its input are,
and the checksum of the weights.
"""

import dataclasses
import importlib.metadata
import json
import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.parameter import is_lazy

from limbeck.checkpoints.tensors import Tensors
from limbeck.landmarks import unwrap
from limbeck.models.build import Build, LimbeckModel
from limbeck.models.card import CARD, FORMAT, WEIGHTS, read_card
from limbeck.models.loading import check_classes, checksum, kept_part
from limbeck.quantization import Quantization, quantize
from limbeck.whole import write_whole, written_whole


def save_student(
    model: nn.Module,
    folder: str | Path,
    *,
    build: Build | None = None,
    classes: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Keep a model in a folder: its weights, and how it is built.

    The folder then holds two files. ``student.safetensors`` has the tensors of the plain network,
    under the names that torchvision, timm or transformers give them. ``student.json`` has the class
    and the arguments that build the model, the names of the foreground classes, the input that the
    network expects (colours, mean and standard deviation), the checksum of the weights, the
    versions of limbeck, torch and torchvision, the metadata and, where that is possible, Python
    that loads the weights without limbeck. A :class:`limbeck.models.HuggingFaceDetector` and a
    :class:`limbeck.models.LibreYOLODetector` add those that their libraries load. Each file appears
    whole or not at all, so a stop in between never leaves a torn one.

    The model is built once more from what would be written, and refused unless the copy has the
    same tensors. A class that is derived from one of limbeck's models is kept as what it is, with
    the arguments that its own constructor got, and all its tensors. It is refused where its
    constructor, called with these arguments, hands others on to limbeck's: such as one that takes
    no ``preset``, where the weights decided it. Its folder is loaded again with ``trust=True``, and
    so is that of a stated build that names weights, such as ``{"pretrained": True}``.

    Args:
        model: One of limbeck's models, a model of a class derived from one, or any module if
            ``build`` is stated. A wrapper of DDP or ``torch.compile`` is taken off.
        folder: The folder to write to. It is made where it is missing, and a student that is there
            is replaced, with what its own library loads.
        build: The class or function that makes ``model``, and its arguments. Default (None): as the
            model says itself, which all of limbeck's models do, and all that
            :func:`load_student` gives.
        classes: The names of the foreground classes, in the order of their labels. Default: the
            names are not kept.
        metadata: Anything else worth keeping, as plain JSON values. Default (None): nothing.

    Raises:
        ValueError: No build is known, the build makes another network than ``model``, its class
            cannot be imported by a name, an argument is no JSON value, or there are not as many
            names as classes.

    Example:
        >>> import os, tempfile
        >>> from limbeck.models import BasicBlocks, Build, Classifier, save_student
        >>> student = Classifier(BasicBlocks(depths=(1, 1), widths=(8, 16)), num_classes=2)
        >>> folder = tempfile.mkdtemp()
        >>> save_student(student, folder, classes=["cat", "dog"], metadata={"epochs": 3})
        >>> sorted(os.listdir(folder))
        ['student.json', 'student.safetensors']

        A module of another library does not know how it is built, so that is stated:

        >>> import torchvision
        >>> squeezenet = torchvision.models.squeezenet1_1(num_classes=2)
        >>> build = Build("torchvision.models.squeezenet1_1", {"num_classes": 2})
        >>> save_student(squeezenet, tempfile.mkdtemp(), build=build)
    """
    model = unwrap(model)
    build, made = _checked_build(model, build)
    check_classes(model, classes)
    tensors = _copied(kept_part(model, made))
    folder = Path(folder)
    with written_whole(folder / CARD) as card, written_whole(folder / WEIGHTS) as weights:
        save_file(tensors, weights)
        said = _card(model, build, classes, checksum(weights), metadata or {})
        card.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        former = _companions_in(folder)
    for name in former:  # of another kind, they would describe another network
        (folder / name).unlink(missing_ok=True)
    if isinstance(made, LimbeckModel) and made.is_limbecks and _quantization(model) is None:
        for name, contents in made.companions(WEIGHTS, tensors, classes).items():
            write_whole(folder / name, contents)


def _companions_in(folder: Path) -> Sequence[str]:
    """The further files of the student that a folder has; none where there is none to be read."""
    try:
        path = read_card(folder).network().class_path
        kind = pkgutil.resolve_name(path) if path.startswith("limbeck.models.") else None
    except (OSError, ValueError, AttributeError, ImportError):
        return ()
    return getattr(kind, "companion_files", ())


def _copied(network: nn.Module) -> Tensors:
    """The tensors of a network on the CPU, none of which shares memory with another one."""
    state = network.state_dict()
    return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in state.items()}


def _checked_build(model: nn.Module, build: Build | None) -> tuple[Build, nn.Module]:
    """The build that was stated or that the model knows, and the same model, made by it again."""
    stated = build is not None
    build = build or getattr(model, "build", None)
    if not isinstance(build, Build):
        raise ValueError(
            f"how to build {type(model).__name__} is not known, so it could not be loaded again. "
            "Pass build=Build(class_path, init_args)."
        )
    made = _made(build)
    if not stated:
        _refuse_other_arguments(model, made)
    if lazy := [name for name, parameter in made.named_parameters() if is_lazy(parameter)]:
        raise ValueError(
            f"{build.class_path} has parameters without a shape until it has run, such as "
            f"{lazy[0]}; loading builds the student without running it. Expected modules that know "
            "their channels. Give nn.Conv2d in place of nn.LazyConv2d, and so on."
        )
    quantization = _quantization(model)
    if quantization is not None:
        quantize(made, quantization)
    differing = sorted(_shapes(made, made) ^ _shapes(model, made))
    if differing:
        raise ValueError(
            f"{build.class_path} with the arguments in `build` makes another network: "
            f"{differing[:4]} differ. Pass the build that makes this model."
        )
    return build, made


def _made(build: Build) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # initialising a copy must not disturb a training run
        try:
            return _without_weights(build)
        except Exception as error:  # whatever a constructor of the user's own raises
            raise ValueError(
                f"{build.class_path} cannot be built again with {build.init_args}: {error}. Let "
                "its constructor take plain arguments that suffice, or pass "
                "build=Build(class_path, init_args)."
            ) from error


def _without_weights(build: Build) -> nn.Module:
    """The network as it is built without fetching weights, unless it is a class of the user's."""
    try:
        return build.make()
    except ValueError:
        return build.make(trust=True)


def _refuse_other_arguments(model: nn.Module, made: nn.Module) -> None:
    """Refuse a derived class that hands something else on to limbeck's constructor when rebuilt."""
    if not isinstance(model, LimbeckModel) or not isinstance(made, LimbeckModel):
        return
    here, there = model.arguments, made.arguments
    differing = [
        f"{n} is {here[n]} here, {there.get(n)} there" for n in here if here[n] != there.get(n)
    ]
    if type(made) is not type(model):
        differing.append(f"there it is a {type(made).__name__} of {type(made).__module__}")
    if differing:
        raise ValueError(
            f"{type(model).__name__}, built again with the arguments that it got, is another "
            f"model: {'; '.join(differing)}. So a student of it could not be loaded again. Let its "
            "constructor take what differs (the weights may have decided it) and hand it on, or "
            "pass build=Build(class_path, init_args)."
        )


def _shapes(model: nn.Module, made: nn.Module) -> set[tuple[str, tuple[int, ...]]]:
    # Frozen normalisations have no counter, and every loader takes or fills it.
    tensors = kept_part(model, made).state_dict()
    return {(k, tuple(v.shape)) for k, v in tensors.items() if "num_batches_tracked" not in k}


def _quantization(model: nn.Module) -> Quantization | None:
    """What of a model is quantized, as :func:`limbeck.quantization.quantize` notes it."""
    noted = getattr(model, "quantization", None)
    return noted if isinstance(noted, Quantization) else None


def _card(
    model: nn.Module,
    build: Build,
    classes: Sequence[str],
    sha256: str,
    metadata: Mapping[str, Any],
) -> dict[str, Any]:
    card: dict[str, Any] = {
        "format": FORMAT,
        "build": {"class_path": build.class_path, "init_args": build.init_args},
    }
    quantization = _quantization(model)
    if quantization is not None:
        card["quantization"] = dataclasses.asdict(quantization)
    arguments, code = build.init_args, None
    if isinstance(model, LimbeckModel):
        arguments = model.arguments
        if model.is_limbecks:
            code = model.without_limbeck() if quantization is None else None
        else:
            base = Build.of(model.base, arguments)
            card["base"] = {"class_path": base.class_path, "init_args": base.init_args}
    licence = getattr(model, "licence", None)
    if licence is not None:
        card["licence"] = licence  # of the weights that it began with
    return card | {
        "classes": list(classes),
        "input": {
            "images": "RGB, float, 0 to 1",
            "mean": arguments.get("mean"),
            "std": arguments.get("std"),
        },
        "without_limbeck": code,
        "weights": {"file": WEIGHTS, "sha256": sha256},
        "versions": {n: importlib.metadata.version(n) for n in ("limbeck", "torch", "torchvision")},
        "metadata": dict(metadata),
    }
