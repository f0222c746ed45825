"""All formats that limbeck knows, and which of them a file or a name belongs to."""

from collections.abc import Iterable
from pathlib import Path

from limbeck.checkpoints.checkpoint import Checkpoint
from limbeck.checkpoints.libraries import trunks
from limbeck.checkpoints.libraries.darknet import Darknet
from limbeck.checkpoints.libraries.detectron2 import Detectron2
from limbeck.checkpoints.libraries.fgfi import FineGrainedImitation
from limbeck.checkpoints.libraries.format import Format
from limbeck.checkpoints.libraries.mmdetection import MMDetection
from limbeck.checkpoints.libraries.torchvision import Torchvision
from limbeck.checkpoints.tensors import Tensors

TORCHVISION = Torchvision()
FORMATS: tuple[Format, ...] = (
    TORCHVISION,
    Detectron2(),
    MMDetection(),
    FineGrainedImitation(),
    Darknet(),
)
# What a file of weights may be called; a file without names is known by its ending alone.
_WRITTEN = (suffix for each in FORMATS for suffix in each.suffixes)
STATE_DICT_SUFFIXES = tuple(dict.fromkeys([".pth", ".pt", ".ckpt", ".pkl", *_WRITTEN]))
SUFFIXES = (*STATE_DICT_SUFFIXES, *(ending for each in FORMATS for ending in each.endings))


def format_named(library: str) -> Format:
    """The format of a library.

    Args:
        library: The library's name.

    Returns:
        The format.

    Raises:
        ValueError: There is no format of that name.
    """
    for each in FORMATS:
        if each.name == library:
            return each
    known = ", ".join(each.name for each in FORMATS)
    raise ValueError(f"library={library!r}: expected one of {known}.")


def format_of_file(path: str | Path) -> Format | None:
    """The format that a file's name alone says, None for all files that hold names of tensors."""
    fitting = (each for each in FORMATS if each.endings and str(path).endswith(each.endings))
    return next(fitting, None)


def format_of(names: Iterable[str]) -> Format | None:
    """The format whose names these are.

    Args:
        names: The names of a file's tensors.

    Returns:
        The format; None for torchvision's names, which are limbeck's own and say nothing of the
        library, and for names that nobody knows.
    """
    names = list(names)
    found = next((each for each in FORMATS if each.recognises(names)), None)
    if found is None:  # a detector's file holds a trunk, too: trunks come last
        trunk = trunks.library_of(names)
        found = next((each for each in FORMATS if trunk in each.trunks), None)
    return None if found is TORCHVISION else found


def library_of(names: Iterable[str]) -> str | None:
    """The library whose names these are, None for torchvision's and for names of nobody."""
    found = format_of(names)
    return None if found is None else found.name


def format_of_suffix(suffix: str) -> Format | None:
    """The only format that writes files of a suffix, None where several do or none does."""
    fitting = [each for each in FORMATS if suffix in each.suffixes]
    return fitting[0] if len(fitting) == 1 else None


def fitted(checkpoint: Checkpoint, own: Tensors, where: str) -> Checkpoint:
    """The checkpoint for a model, see :meth:`Format.fitted`; a student of limbeck's as it is.

    Args:
        checkpoint: A checkpoint of any library, or a student.
        own: The state dict of the model.
        where: The file and the model, for messages.

    Returns:
        The checkpoint under the names that the model has.

    Raises:
        ValueError: The file does not fit the model.
    """
    if checkpoint.library == "limbeck":
        return checkpoint
    return format_named(checkpoint.library).fitted(checkpoint, own, where)
