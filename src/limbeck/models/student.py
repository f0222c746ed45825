"""The artefact: a folder that holds a student, and loads without limbeck where that is possible.

``student.safetensors`` holds the tensors of the plain network under the names that torchvision or
timm give them. ``student.json`` says how the network is built, what its classes and its input are,
and the checksum of the weights.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from limbeck.checkpoints.reading.files import read_safetensors
from limbeck.checkpoints.tensors import Tensors
from limbeck.landmarks import unwrap
from limbeck.models.build import Build, LimbeckModel
from limbeck.models.card import CARD, FORMAT, WEIGHTS, Card, own_file, read_card
from limbeck.models.sizes import BoundedOperations, bounded_size
from limbeck.models.state_dicts import load_strictly
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
    _check_classes(model, classes)
    tensors = _copied(_kept_part(model, made))
    folder = Path(folder)
    with written_whole(folder / CARD) as card, written_whole(folder / WEIGHTS) as weights:
        save_file(tensors, weights)
        said = _card(model, build, classes, _sha256(weights), metadata or {})
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


def load_student(folder: str | Path, *, trust: bool = False) -> nn.Module:
    """Load the student that a folder holds.

    A folder is refused where a file is missing or damaged, where it was written in another format,
    or where its weights do not fit the network that it describes. Nothing in it has limbeck fetch
    an address or open a file outside of it.

    Args:
        folder: The folder, as :func:`save_student` wrote it; or a student on the hub of Hugging
            Face, ``hf:owner/name``, of which these two files are fetched.
        trust: Build the student also where its class, or the function that makes it, is not one of
            the models of limbeck, torchvision or timm, and with whatever arguments: that code is
            imported and run. By default such a student is refused, so loading a folder from
            elsewhere never runs foreign code.

    Returns:
        The student, on the CPU, in evaluation mode, of the class that was saved. Its attribute
        ``build`` says how it was built. Where names of classes were kept, its attribute ``classes``
        has them as a tuple.

    Raises:
        FileNotFoundError: There is no student in ``folder``.
        ValueError: A file is damaged, of another format, or does not fit the network; or the class
            or an argument is not permitted without trust.

    Example:
        >>> import tempfile, torch
        >>> from limbeck.models import BasicBlocks, Classifier, load_student, save_student
        >>> student = Classifier(BasicBlocks(depths=(1, 1), widths=(8, 16)), num_classes=2)
        >>> folder = tempfile.mkdtemp()
        >>> save_student(student, folder, classes=["cat", "dog"])
        >>> again = load_student(folder)
        >>> again.classes
        ('cat', 'dog')
        >>> images = torch.rand(1, 3, 32, 32)
        >>> torch.equal(again(images), student.eval()(images))
        True
    """
    return student_of_files(*read_student(folder), trust=trust)


def student_of_files(card: Card, tensors: Tensors, *, trust: bool = False) -> nn.Module:
    """Build the student whose two files were read, as :func:`load_student` gives it.

    Args:
        card: What ``student.json`` says.
        tensors: The weights.
        trust: As :func:`load_student` takes it.

    Returns:
        The student.

    Raises:
        ValueError: The two do not fit each other, or something is not permitted without trust.
    """
    model = _built(card, tensors, trust=trust)
    if card.quantization is not None:
        try:
            quantize(model, card.quantization)
        except ValueError as error:
            raise ValueError(f"{card.path}: {error}") from None
    part = _kept_part(model, model)
    advice = f"{CARD} and {WEIGHTS} are not of one student. Save the student anew."
    load_strictly(part, tensors, str(card.path.with_name(WEIGHTS)), advice)
    if not isinstance(model, LimbeckModel) and not hasattr(model, "build"):
        model.build = card.build  # type: ignore[assignment]  # a plain attribute
    if card.licence is not None:
        model.licence = card.licence  # type: ignore[assignment]  # a plain attribute
    if card.classes:
        _check_classes(model, card.classes, f"{card.path}: ")
        model.classes = card.classes  # type: ignore[assignment]  # a plain attribute
    return model.eval()


def read_student(folder: str | Path) -> tuple[Card, Tensors]:
    """Read the two files of a student's folder, and compare the checksum of the weights.

    Args:
        folder: The folder, as :func:`save_student` wrote it.

    Returns:
        What ``student.json`` says, and the tensors by their names.

    Raises:
        FileNotFoundError: There is no student in ``folder``.
        ValueError: A file is damaged or a link out of the folder, was written in another format, or
            holds weights that are NaN.
    """
    card = read_card(folder)
    path = own_file(card.path.parent, WEIGHTS)
    if _sha256(path) != card.sha256:
        raise ValueError(
            f"{path} is not the file that {CARD} describes (its sha256 differs): "
            "damaged, or of another run. Save the student anew."
        )
    try:
        tensors, _ = read_safetensors(path)
    except Exception as error:  # whatever a damaged file comes to
        raise ValueError(f"{path} cannot be read ({error}). Save the student anew.") from None
    broken = [name for name, tensor in tensors.items() if _is_broken(tensor)]
    if broken:
        raise ValueError(
            f"{path} holds NaN or infinity in {', '.join(broken[:5])}: training went wrong before "
            "the student was saved. Train it anew, or take an earlier one."
        )
    return card, tensors


def _is_broken(tensor: torch.Tensor) -> bool:
    """Whether it has NaN or infinity; minus infinity stands in masks."""
    if not tensor.is_floating_point():
        return False
    values = tensor.float() if tensor.element_size() == 1 else tensor  # not made for float8
    return bool((values.isnan() | values.isposinf()).any())


def _built(card: Card, tensors: Tensors, *, trust: bool) -> nn.Module:
    """The model that a card describes, which is not larger than its weights."""
    try:
        with nullcontext() if trust else _bounded(tensors):
            return card.build.make(trust=trust)
    except ValueError as error:
        raise ValueError(f"{card.path}: build: {str(error)[:2000]}") from error
    except ImportError as error:  # of a library that is not installed, which the error says
        raise ValueError(f"{card.path}: build: {error}") from error
    except Exception as error:  # whatever a constructor raises for arguments from anywhere
        raise ValueError(
            f"{card.path}: build: {card.build.class_path} does not take its init_args "
            f"({type(error).__name__}: {str(error)[:2000]}). Save the student anew."
        ) from error


@contextmanager
def _bounded(tensors: Tensors) -> Iterator[None]:
    """Refuse to build a model that is much larger than its weights, before it takes the memory.

    Constructors make some parts that they do not keep, such as a trunk's own head.
    """
    most = 120_000_000 + 4 * sum(tensor.numel() for tensor in tensors.values())
    most_tensors = 5_000 + 4 * len(tensors)
    refusal = ValueError(
        f"its init_args make a network of more than {most} values or {most_tensors} tensors, "
        f"expected the {len(tensors)} tensors of {WEIGHTS}. Save the student anew."
    )
    with bounded_size(most, most_tensors, refusal), BoundedOperations(4 * most, refusal):
        yield


def _kept_part(model: nn.Module, made: nn.Module) -> nn.Module:
    """The part of a model whose tensors are kept, by what its build makes.

    Of limbeck's own models this is the plain network, as other libraries know it. A class that is
    derived from one may hold more, and is kept whole.
    """
    plain = isinstance(made, LimbeckModel) and made.is_limbecks
    return model.plain() if plain and isinstance(model, LimbeckModel) else model


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


def _check_classes(model: nn.Module, classes: Sequence[str], where: str = "") -> None:
    expected = getattr(model, "num_classes", None)
    if classes and expected is not None and len(classes) != expected:
        raise ValueError(
            f"{where}classes has {len(classes)} names, the model has num_classes={expected}. "
            "Name each foreground class once, in order."
        )


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
            return build.make(trust=True)
        except Exception as error:  # whatever a constructor of the user's own raises
            raise ValueError(
                f"{build.class_path} cannot be built again with {build.init_args}: {error}. Let "
                "its constructor take plain arguments that suffice, or pass "
                "build=Build(class_path, init_args)."
            ) from error


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
    tensors = _kept_part(model, made).state_dict()
    return {(k, tuple(v.shape)) for k, v in tensors.items() if "num_batches_tracked" not in k}


def _quantization(model: nn.Module) -> Quantization | None:
    """What of a model is quantized, as :func:`limbeck.quantization.quantize` notes it."""
    noted = getattr(model, "quantization", None)
    return noted if isinstance(noted, Quantization) else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
