"""Folders and names on the hub of Hugging Face, read without code of theirs."""

import importlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from limbeck.texts import read_text

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
PREFIX = "hf:"  # before the name of a student on the hub
_REPOSITORY = r"(?P<repository>[\w.-]+/[\w.-]+)"
_NAME = re.compile(rf"{PREFIX}{_REPOSITORY}(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_ADAPTER = "adapter_config.json"
INSTALL = "pip install 'limbeck[transformers]'"


def transformers() -> Any:
    """The library; an error says how it is installed."""
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ImportError(
            f"a network of Hugging Face's needs the library transformers ({error}). Install it: "
            f"{INSTALL}."
        ) from error


def file_of(network: str, name: str) -> Path | None:
    """A file of a folder, or of a name on the hub.

    Args:
        network: The folder or the name.
        name: The name of the file.

    Returns:
        Where the file is. None: there is none of that name.

    Raises:
        OSError: The hub is not reached.
    """
    if Path(network).is_dir():
        file = Path(network, name)
        return file if file.is_file() else None
    library = transformers()
    try:
        found = library.utils.cached_file(
            network, name, _raise_exceptions_for_missing_entries=False
        )
    except ValueError:  # it is no name as the hub's are
        return None
    return None if found is None else Path(found)


def refuse_adapter(weights: str) -> None:
    """Refuse a folder or a name on the hub that has an adapter of peft's in place of weights.

    Args:
        weights: The folder or the name.

    Raises:
        OSError: The hub is not reached.
        ValueError: It has one, which says what is added to other weights, and where those are.
    """
    if file_of(weights, _ADAPTER) is not None:
        raise ValueError(
            f"weights={weights!r} have an {_ADAPTER}: they are an adapter of peft's, which is "
            "added to other weights. Merge it into those (merge_and_unload), save them, and give "
            "that folder."
        )


def json_of(path: Path) -> Mapping[str, Any]:
    """What a file of JSON holds, which has to be a mapping."""
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}). Copy it again.") from error
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} holds a {type(found).__name__}, expected a mapping. Correct it.")
    return found


def fetched(source: str, names: tuple[str, ...]) -> Path:
    """Fetch some files of a student on the hub, unless they are here already.

    Nothing in them is run, and no other file is fetched.

    Args:
        source: ``hf:owner/name``, or ``hf:owner/name@revision`` for a branch, a tag or a commit.
        names: The names of the files.

    Returns:
        The folder of the hub's cache that holds them.

    Raises:
        FileNotFoundError: There is no such student, or the hub is not reached.
        ValueError: It is no such name.
    """
    named = _NAME.fullmatch(source)
    if named is None:
        raise ValueError(
            f"{source!r} is no name on the hub of Hugging Face; expected hf:owner/name, or "
            "hf:owner/name@revision. Correct it."
        )
    try:
        found = [
            Path(hf_hub_download(named["repository"], name, revision=named["revision"]))
            for name in names
        ]
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise FileNotFoundError(
            f"{source}: {', '.join(names)} cannot be fetched ({_first_line(error)}). Expected a "
            "student that `limbeck push` has put there. Correct the name, log in with `hf auth "
            "login` where it is private, or see whether the hub can be reached."
        ) from error
    return found[0].parent


def is_named(name: str) -> bool:
    """Whether it is the name of a repository on the hub: ``owner/name``."""
    return re.fullmatch(_REPOSITORY, name, re.ASCII) is not None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]
