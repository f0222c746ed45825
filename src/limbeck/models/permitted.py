"""What a student's card may have built: models, and nothing that reads, fetches or runs more.

A card is data from anywhere. It names a class or a builder, and arguments. Those that are permitted
without trust are classes of modules in ``limbeck.models``, ``torchvision.models`` and
``timm.models``, and the builders that torchvision and timm list; never a function that takes a
folder, an address or trust. Weights come from the student's own folder alone, so whatever has a
builder fetch or open others is refused where it is stated, and switched off where it is usual.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import timm
import torchvision
from torch import nn

from limbeck.arguments import imported, items, refuse_absurd, refuse_misfits, shown

TRUSTED = ("limbeck", "torchvision", "timm")
ADVICE = (
    "Pass trust=True (in a recipe `trust: true`, on the command line `--trust true`) if you trust "
    "whoever wrote it."
)

_ROOMS = tuple(f"{library}.models." for library in TRUSTED)
_PUBLIC = re.compile(r"[a-zA-Z]\w*(\.[a-zA-Z]\w*)+", re.ASCII)  # no colons, nothing private
_TIMMS_NAME = re.compile(r"[\w.-]+", re.ASCII)  # no hf-hub:, no local-dir:, no path
# Arguments, at any depth, by which torchvision, timm and limbeck find weights.
_SOURCES = re.compile(r"weights.*|pretrained.*|checkpoint_path|cache_dir")
_OFF = (None, False, "")


def permitted(
    class_path: str, init_args: Mapping[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What a card has built, and the arguments for it, if it may be built without trust.

    Args:
        class_path: The dotted name of a class or of a builder.
        init_args: Its keyword arguments, as plain JSON values.

    Returns:
        The class or the builder, and its arguments, with which no weights are loaded.

    Raises:
        ValueError: It does not exist or is not permitted, or an argument asks for weights, does not
            suit, or is absurd.
    """
    maker = _found(class_path)
    refuse_absurd(init_args, "init_args")
    _refuse_sources(class_path, init_args)
    arguments = {name: value for name, value in init_args.items() if not _is_source(name)}
    if maker is torchvision.models.get_model:
        maker = torchvision.models.get_model_builder(_listed(arguments.pop("name", None)))
    elif maker is timm.create_model:
        _refuse_other_names(arguments.get("model_name"))
    elif inspect.isclass(maker) and maker.__module__.startswith("limbeck."):
        refuse_misfits(maker, arguments, "init_args")
        _refuse_places(class_path, arguments, getattr(maker, "described_by", ()))
    taken = inspect.signature(maker).parameters
    off = {"weights": None, "weights_backbone": None, "pretrained": False}
    return maker, arguments | {name: value for name, value in off.items() if name in taken}


def _found(class_path: str) -> Callable[..., Any]:
    told = f"class_path {shown(class_path)}"
    if re.split("[.:]", class_path)[0] not in TRUSTED:
        raise ValueError(f"{told}: only {', '.join(TRUSTED)} are run unasked. {ADVICE}")
    refused = ValueError(
        f"{told}: expected an nn.Module class of {', '.join(f'{room}*' for room in _ROOMS)}, or a "
        f"builder that torchvision or timm lists. {ADVICE}"
    )
    # To look a name up is to import modules, so this is asked before.
    in_room = class_path.startswith(_ROOMS) or class_path == "timm.create_model"
    if not (in_room and _PUBLIC.fullmatch(class_path)):
        raise refused
    try:
        maker: Callable[..., Any] = imported(class_path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{told} does not exist: {error}") from None
    if not (_is_model(maker) or _is_builder(maker)):
        raise refused
    return maker


def _is_model(maker: Any) -> bool:
    """Whether it is a public class of modules of the three libraries' models."""
    if not (inspect.isclass(maker) and issubclass(maker, nn.Module)):
        return False
    home = f"{maker.__module__}.{maker.__qualname__}"
    return home.startswith(_ROOMS) and _PUBLIC.fullmatch(home) is not None


def _is_builder(maker: Any) -> bool:
    """Whether it is one of the functions that torchvision and timm list, or that call these."""
    if maker is torchvision.models.get_model or maker is timm.create_model:
        return True
    listed = map(torchvision.models.get_model_builder, torchvision.models.list_models())
    if any(builder is maker for builder in listed):
        return True
    name = getattr(maker, "__name__", None)
    if not isinstance(name, str) or not timm.is_model(name):
        return False
    return timm.models.model_entrypoint(name) is maker


def _listed(name: Any) -> str:
    if not isinstance(name, str) or name not in torchvision.models.list_models():
        raise ValueError(
            f"init_args.name is {shown(name)}, expected a name of torchvision.models.list_models()."
        )
    return name


def _refuse_other_names(name: Any) -> None:
    if not (isinstance(name, str) and _TIMMS_NAME.fullmatch(name) and timm.is_model(name)):
        raise ValueError(
            f"init_args.model_name is {shown(name)}, expected a name of timm.list_models(), "
            f"without hub or folder. {ADVICE}"
        )


def _refuse_sources(class_path: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that have a builder fetch or open weights."""
    for name, value in items(arguments):
        if _is_source(name) and value not in _OFF:
            raise ValueError(
                f"init_args.{name} of {class_path} is {shown(value)}, expected null: the "
                f"weights of a student are in its own folder. Set it to null. {ADVICE}"
            )


def _refuse_places(class_path: str, arguments: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse a text where it would be a folder or an address that describes the network."""
    for name in names:
        if isinstance(arguments.get(name), str):
            raise ValueError(
                f"init_args.{name} of {class_path} is {shown(arguments[name])}, which would be "
                "opened or fetched; expected a mapping that describes the network. Write it there, "
                f"as save_student does. {ADVICE}"
            )


def _is_source(name: str) -> bool:
    return _SOURCES.fullmatch(name) is not None
