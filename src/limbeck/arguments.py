"""Classes and their arguments as plain values, which is how a file has them.

What stands in a student's folder is data from anywhere. Before a class gets its arguments from it,
they are compared with the types of its signature, and with sizes that no model has.
"""

import contextlib
import dataclasses
import inspect
import json
import math
import operator
import pkgutil
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Union

from limbeck.ranges import SIDE

_MOST = 10_000_000  # far above what any model has
_LONGEST_LIST = 10_000
_SIDES = ("image_size", "img_size", "min_size", "resize", "size")
SAVE_ANEW = "Save the student anew."
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120


def imported(path: str) -> Any:
    """What a dotted name names, such as a class or a function that builds a network.

    Where a module and what it has under the same name share one, it is the latter:
    ``torchvision.models.alexnet`` is the function, as ``from torchvision.models import alexnet``
    gives it, and not the file.

    Args:
        path: The name, with a colon behind the module or without.

    Returns:
        What is there.

    Raises:
        ImportError: There is no such module.
        AttributeError: There is no such name in it.
        ValueError: It is no name.
    """
    module, _, name = path.rpartition(".")
    if module and ":" not in path:
        with contextlib.suppress(ImportError, AttributeError, ValueError):
            return pkgutil.resolve_name(f"{module}:{name}")
    return pkgutil.resolve_name(path)


def importable_name(made: type) -> str | None:
    """The shortest dotted name by which a class is imported again.

    A package may hand on what a module of it holds.

    Args:
        made: The class.

    Returns:
        The name. None: there is none, as for a class of a script, or one within a function.
    """
    find = operator.attrgetter(made.__qualname__)
    parts = made.__module__.split(".")
    for depth in range(1, len(parts) + 1):
        module = ".".join(parts[:depth])
        try:
            found = find(sys.modules[module])
        except (AttributeError, KeyError):
            continue
        if found is made and module != "__main__":
            return f"{module}.{made.__qualname__}"
    return None


def plain_value(value: Any) -> Any:
    """A value as JSON gives it back: tuples become lists, and dataclasses become mappings.

    Args:
        value: Numbers, strings, None, and sequences, mappings and dataclasses of these.

    Returns:
        The value, of numbers, strings, None, lists and mappings alone.

    Raises:
        TypeError: JSON cannot hold it.
    """
    return json.loads(json.dumps(value, default=dataclasses.asdict))


def refuse_misfits(maker: Callable[..., Any], arguments: Mapping[str, Any], where: str) -> None:
    """Refuse arguments that are unknown, missing, or of another type than the signature says.

    Args:
        maker: A class or function with annotated arguments.
        arguments: The arguments by their names, as plain JSON values.
        where: Where they stand, such as ``build.init_args``.

    Raises:
        ValueError: An argument does not suit. The message names it, and what was expected.
    """
    parameters = inspect.signature(maker).parameters
    hints = typing.get_type_hints(maker.__init__ if inspect.isclass(maker) else maker)
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for name, each in parameters.items():
        variadic = each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        if name not in arguments and each.default is each.empty and not variadic:
            raise ValueError(f"{where} has no {name}, which {maker.__name__} needs. {SAVE_ANEW}")
    for name, value in arguments.items():
        if name not in parameters and not open_ended:
            raise ValueError(
                f"{where} has {shown(name)}, which {maker.__name__} does not take. It takes "
                f"{', '.join(parameters)}. {SAVE_ANEW}"
            )
        if not suits(value, hints.get(name, Any)):
            expected = _told(hints[name])
            raise ValueError(f"{where}.{name} is {shown(value)}, expected {expected}. {SAVE_ANEW}")


def refuse_absurd(arguments: Mapping[str, Any], where: str) -> None:
    """Refuse numbers that are not finite, and sizes that no model can be built or run with.

    Args:
        arguments: The arguments by their names, as plain JSON values.
        where: Where they stand, such as ``build.init_args``.

    Raises:
        ValueError: A number or a list is absurd. The message names its argument.
    """
    for key, value in items(arguments):
        if isinstance(value, list) and len(value) > _LONGEST_LIST:
            raise ValueError(
                f"{where}.{key} has {len(value)} values, expected at most {_LONGEST_LIST}. "
                f"{SAVE_ANEW}"
            )
        most = SIDE.most if key in _SIDES else _MOST
        if isinstance(value, int | float) and not abs(value) <= most:
            raise ValueError(
                f"{where}.{key} has the number {shown(value)}, expected a number up to {most}. "
                f"{SAVE_ANEW}"
            )


def shown(value: Any) -> str:
    """A value of a file as an error shows it, which is short however long the value is."""
    return _SHORT.repr(value)


def items(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in plain data, at any depth, with the nearest key above it.

    Args:
        value: Mappings, lists, numbers, texts and None.
        key: The key of the value itself.

    Yields:
        The keys and the values, outer values before those inside them.
    """
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield str(name), each
            yield from items(each, str(name))
    elif isinstance(value, list | tuple):
        for each in value:
            yield key, each
            yield from items(each, key)


def suits(value: Any, hint: Any) -> bool:
    """Whether a plain JSON value is of an annotated type, or becomes such: a list is a tuple, too.

    Args:
        value: The value.
        hint: The annotation. Of what is no plain type, nothing is known, and any value suits.

    Returns:
        Whether it suits.
    """
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind in (Union, types.UnionType):
        return any(suits(value, each) for each in inner)
    if kind is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if kind is tuple and inner[-1] is not ...:
        return isinstance(value, list) and len(value) == len(inner) and _all(value, inner)
    if kind in (list, tuple, Sequence):
        return isinstance(value, list) and _all(value, inner[:1] * len(value))
    if kind in (dict, Mapping):
        return isinstance(value, dict) and _all(value.values(), inner[1:] * len(value))
    if dataclasses.is_dataclass(hint):
        return isinstance(value, dict) and _suits_fields(value, hint)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    plain = hint in (bool, int, str, types.NoneType)
    return not plain or type(value) is hint


def _all(values: Any, hints: Sequence[Any]) -> bool:
    return all(suits(value, hint) for value, hint in zip(values, hints, strict=True))


def _suits_fields(value: Mapping[str, Any], kind: Any) -> bool:
    hints = typing.get_type_hints(kind)
    needed = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    known = needed <= value.keys() <= hints.keys()
    return known and all(suits(each, hints[name]) for name, each in value.items())


def _told(hint: Any) -> str:
    """An annotation as an error says it."""
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind in (Union, types.UnionType):
        return " or ".join(map(_told, inner))
    if kind is Literal:
        return " or ".join(map(repr, inner))
    if inner:
        parts = ", ".join("..." if each is ... else _told(each) for each in inner)
        return f"{kind.__name__}[{parts}]" if kind else str(hint)
    return str(getattr(hint, "__name__", hint)).replace("NoneType", "null")
