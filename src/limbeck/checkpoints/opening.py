"""Files of weights are opened here, whatever library wrote them."""

import re
from pathlib import Path
from typing import Any, get_args

from limbeck.checkpoints.architecture import ODD_SHAPES, kind_of, odd_shapes
from limbeck.checkpoints.checkpoint import Checkpoint, Style
from limbeck.checkpoints.formats import (
    FORMATS,
    STATE_DICT_SUFFIXES,
    SUFFIXES,
    TORCHVISION,
    format_named,
    format_of,
    format_of_file,
)
from limbeck.checkpoints.libraries.torchvision import with_published_eps
from limbeck.checkpoints.reading.downloads import fetch, is_url
from limbeck.checkpoints.reading.files import read_file

_LIBRARIES = "|".join(each.name for each in FORMATS)
_SOURCE = re.compile(rf"(?:({_LIBRARIES})(?:-({'|'.join(get_args(Style))}))?:)?(.*)", re.DOTALL)


def is_file_source(source: str) -> bool:
    """Whether weights are in a file, folder or at an address, and not published under a name."""
    library, _, name = source.partition(":")
    of_torchvision = library == TORCHVISION.name and not name.endswith(STATE_DICT_SUFFIXES)
    return not (library == "timm" or of_torchvision)


def open_checkpoint(
    source: str,
    library: str | None = None,
    style: Style | None = None,
    part: str | None = None,
) -> Checkpoint:
    """Read a file of weights.

    Args:
        source: The file: ``file``, ``library:file`` or ``library-style:file``, each with a path or
            an http address.
        library: The name of the library whose file it is, one of
            :data:`limbeck.checkpoints.formats.FORMATS`. Default (None): as ``source`` says,
            otherwise as the names in the file say. A file of torchvision's names whose library is
            not said determines no arguments.
        style: The style of its trunk, see :mod:`limbeck.checkpoints.checkpoint`. Default (None): as
            ``source`` says, otherwise as its configuration says, otherwise as is usual.
        part: The part of a file with several sets of weights, see :func:`read_file`.

    Returns:
        The weights, with the arguments that the file determines.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read, or is not of that library.
    """
    said = re.fullmatch(_SOURCE, source)
    assert said is not None
    path = fetch(said[3]) if is_url(said[3]) else Path(said[3])
    if "\0" in source or not said[3] or not path.exists():
        raise FileNotFoundError(_missing(source))
    told = library or said[1]
    named = format_named(told) if told else format_of_file(path)
    contents = with_published_eps(named.load(path, part) if named else read_file(path, part))
    own = format_of(contents.tensors)
    read = named or own
    if read is None:
        kind = kind_of(contents.tensors)
        return Checkpoint(source, TORCHVISION.name, kind, contents.tensors, contents=contents)
    if own not in (None, read):
        raise ValueError(
            f"{path}, read as {read.name}'s: its names are {own.name}'s. Name that library, or "
            "none."
        )
    in_source: Any = said[2]
    try:
        return read.read(source, contents, style or in_source)
    except ValueError as error:
        raise ValueError(f"{path}, read as {read.name}'s: {error}") from None
    except ODD_SHAPES as error:
        raise ValueError(f"{path}: {odd_shapes(f'network of {read.name}', error)}") from None


def _missing(source: str) -> str:
    """What to say where there is no such file."""
    *first, last = (f"{each.name}:" for each in FORMATS)
    return (
        f"weights={source!r}: there is no such file or folder. Expected a file of weights "
        f"({', '.join(SUFFIXES)}) or its address, alone or after {', '.join(first)} or {last}; a "
        "student's folder; or torchvision:<name of published weights>, timm:<name or tag>."
    )
