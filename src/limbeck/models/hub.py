"""Folders and names on the hub of Hugging Face, read without code of theirs."""

import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError

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


@dataclass(frozen=True)
class Stated:
    """What a folder or a name on the hub says of a network, as it stands there: of any kind.

    Attributes:
        where: The file of the configuration, for messages.
        config: The configuration.
        preprocessor: What images are brought to before the network sees them. Empty: nobody says
            it.
    """

    where: str
    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any]


def stated_of(network: str, prefix: str = "") -> Stated:
    """What a folder or a name on the hub says of its network.

    Args:
        network: The folder or the name.
        prefix: What stands before it in a recipe, for messages.

    Returns:
        What its files say, which is not checked.

    Raises:
        FileNotFoundError: There is no such folder, and the hub has no such name or is not reached.
        ValueError: A file is no JSON, or holds no mapping.
    """
    said = f"network is {prefix + network!r}"
    try:
        found, why = file_of(network, CONFIG), ""
    except OSError as error:
        found, why = None, f" ({str(error)[:500]})"
    if found is None:
        raise FileNotFoundError(
            f"{said}: there is no {CONFIG}{why}. Expected a folder that has one, or a name on the "
            "hub of Hugging Face, such as PekingU/rtdetr_r18vd. Correct it, or see whether the hub "
            "can be reached."
        )
    try:
        preprocessor = file_of(network, PREPROCESSOR)
    except OSError as error:  # without it images would silently be seen otherwise
        raise FileNotFoundError(
            f"{said}: whether it has a {PREPROCESSOR} is not known ({str(error)[:500]}). See "
            "whether the hub can be reached, or give a folder."
        ) from error
    return Stated(str(found), json_of(found), {} if preprocessor is None else json_of(preprocessor))


def pretrained(network: Any, weights: str, config: Any, **options: Any) -> tuple[Any, Any]:
    """A network of the library with published weights, which are read without code.

    Args:
        network: The class of the network.
        weights: A folder, or a name on the hub.
        config: The configuration of the network.
        options: Further arguments of ``from_pretrained``.

    Returns:
        The network, and what the library says of tensors that are missing, left over or of another
        shape.

    Raises:
        ValueError: The library does not load them.
    """
    try:
        loaded, told = network.from_pretrained(
            weights,
            config=config,
            dtype=torch.float32,  # the library's own choice is that of the file
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise not_loaded(weights, error) from error
    return loaded, told


def not_loaded(weights: str, error: Exception) -> ValueError:
    """The error about weights that the library does not load."""
    return ValueError(
        f"weights={weights!r}: transformers does not load them ({error}). Expected a folder or a "
        "name on the hub with weights of this network in safetensors."
    )


def refuse_adapter(weights: str) -> None:
    """Refuse a folder or a name on the hub that has an adapter of peft's in place of weights.

    Args:
        weights: The folder or the name.

    Raises:
        ValueError: It has one, which says what is added to other weights, and where those are; or
            the hub is not reached.
    """
    try:
        found = file_of(weights, _ADAPTER)
    except OSError as error:
        raise not_loaded(weights, error) from error
    if found is not None:
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
        folder, revision = Path(), named["revision"]
        for name in names:
            folder = Path(hf_hub_download(named["repository"], name, revision=revision)).parent
            revision = folder.name  # the commit, which a push in between does not change
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise FileNotFoundError(
            f"{source}: {', '.join(names)} cannot be fetched ({first_line(error)}). Expected a "
            "student that `limbeck push` has put there. Correct the name, log in with `hf auth "
            "login` where it is private, or see whether the hub can be reached."
        ) from error
    return folder


def is_named(name: str) -> bool:
    """Whether it is the name of a repository on the hub: ``owner/name``."""
    return re.fullmatch(_REPOSITORY, name, re.ASCII) is not None


def first_line(error: BaseException) -> str:
    """What is told of an error of the hub's client: its first line, or its name where it has none.

    Args:
        error: The error.
    """
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]
