"""A student's folder is read, and the student in it is built again.

How the folder is written, and what is in it: :mod:`limbeck.models.saving`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import nn

from limbeck.checkpoints.reading.files import read_safetensors
from limbeck.checkpoints.tensors import Tensors
from limbeck.models.build import LimbeckModel
from limbeck.models.card import CARD, WEIGHTS, Card, own_file, read_card
from limbeck.models.sizes import BoundedOperations, bounded_size
from limbeck.models.state_dicts import load_strictly
from limbeck.quantization import quantize


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
    part = kept_part(model, model)
    advice = f"{CARD} and {WEIGHTS} are not of one student. Save the student anew."
    load_strictly(part, tensors, str(card.path.with_name(WEIGHTS)), advice)
    if not isinstance(model, LimbeckModel) and not hasattr(model, "build"):
        model.build = card.build  # type: ignore[assignment]  # a plain attribute
    if card.licence is not None:
        model.licence = card.licence  # type: ignore[assignment]  # a plain attribute
    if card.classes:
        check_classes(model, card.classes, f"{card.path}: ")
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
    if checksum(path) != card.sha256:
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


def kept_part(model: nn.Module, made: nn.Module) -> nn.Module:
    """The part of a model whose tensors are kept, by what its build makes.

    Of limbeck's own models this is the plain network, as other libraries know it. A class that is
    derived from one may hold more, and is kept whole.
    """
    plain = isinstance(made, LimbeckModel) and made.is_limbecks
    return model.plain() if plain and isinstance(model, LimbeckModel) else model


def check_classes(model: nn.Module, classes: Sequence[str], where: str = "") -> None:
    """Refuse names of classes that are not as many as the model has classes.

    Args:
        model: The model.
        classes: The names; none is no error.
        where: What the message begins with, such as the file that has the names.

    Raises:
        ValueError: There are more or fewer names.
    """
    expected = getattr(model, "num_classes", None)
    if classes and expected is not None and len(classes) != expected:
        raise ValueError(
            f"{where}classes has {len(classes)} names, the model has num_classes={expected}. "
            "Name each foreground class once, in order."
        )


def checksum(path: Path) -> str:
    """The SHA-256 of a file, as the card states that of the weights."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
