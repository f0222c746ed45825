"""What is told where other libraries cannot build what a recipe states."""

import inspect
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser

from limbeck.arguments import imported
from limbeck.commands.errors import RecipeError, of_ours, raised_in, told
from limbeck.commands.in_words import arguments_of, entries, key_of, reasons_in
from limbeck.commands.parsing import Explaining

REFUSALS = (MisconfigurationException,)  # of Lightning's, whenever it finds out

# How messages of limbeck's begin that are about one argument: its name, and its value.
_NAMED = re.compile(r"(\w+)(?: is |=)'?(.+?)'?(?:;|: |, |$)")
_SECTIONS = ("model.", "data.", "trainer.")


class RecipeParser(Explaining, LightningArgumentParser):
    """A parser that says what was expected, and which known name is nearest to an unknown one."""


@contextmanager
def said_of_building(
    stated: Any,
    kinds: tuple[type[Exception], ...] = (MisconfigurationException, ValueError, TypeError),
) -> Iterator[None]:
    """Within, what a recipe states is built; errors of Lightning and jsonargparse name its key.

    Errors of limbeck's own are sentences already, and all others stay what they are: they may be
    mistakes in limbeck, or in a class that the recipe names.

    Args:
        stated: The values of all keys, before anything is built.
        kinds: The errors of Lightning's that are about what is stated.

    Raises:
        RecipeError: Something cannot be built as it is stated.
    """
    try:
        yield
    except Exception as error:
        ours = of_ours(error)
        if ours is not None:
            keyed = _keyed(stated, ours)
            if keyed is None:
                raise
            raise RecipeError(keyed) from error
        reasons, value = reasons_in(str(error))
        if raised_in(error) == "jsonargparse" and reasons:
            said = " ".join(reasons)
            key = _argument(stated, key_of(stated, value), said)
            raise RecipeError(f"{key}{said}\nCorrect that in the recipe.") from error
        if raised_in(error) == "lightning" and isinstance(error, kinds):
            raise RecipeError(
                f"trainer: Lightning does not take what the recipe states ({error}). Expected a "
                "trainer that this machine can make. Correct the key that is named."
            ) from error
        raise


def _keyed(stated: Any, error: BaseException) -> str | None:
    """What the user is told of an error of limbeck's, behind the key in the recipe; None: as is."""
    said = told(error)
    if said.startswith(_SECTIONS):
        return None
    named = _NAMED.match(said)
    key, arguments = built_in(stated, error)
    if key:
        return f"{key}{'.init_args.' if named and named[1] in arguments else ': '}{said}"
    key = key_of(stated, named[2], named[1]) if named else ""
    return key + said.removeprefix(named[1]) if named and key else None


def _argument(stated: Any, key: str, said: str) -> str:
    """What stands before a message about a key, or about the argument that it begins with."""
    named = _NAMED.match(said)
    known = dict(entries(stated))
    inner = [
        each for each in (f"{key}.init_args.", f"{key}.") if named and each + named[1] in known
    ]
    return inner[0] if inner else f"{key}: " if key else ""


def built_in(stated: Any, error: BaseException) -> tuple[str, list[str]]:
    """What of a recipe was being built where an error was raised.

    Args:
        stated: The values of all keys.
        error: The error.

    Returns:
        The dotted key of what has a class path, and the names of the arguments that its class or
        function takes. An empty key: nothing in the recipe was being built.
    """
    values = dict(entries(stated))
    makers = {key: path for key, each in values.items() if (path := _class_path(each))}
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):  # the innermost first
        codes = {key: _code_of(path) for key, path in makers.items()}
        built = [key for key, code in codes.items() if code is frame.f_code]
        if built:
            local = frame.f_locals
            agreeing = {
                key: sum(local.get(name) == value for name, value in _plain(values[key]))
                for key in built
            }
            key = max(built, key=agreeing.__getitem__)  # of several of one class
            return key, arguments_of(makers[key])
    return "", []


def _class_path(stated: Any) -> str | None:
    path = getattr(stated, "class_path", None)
    return path if isinstance(path, str) else None


def _plain(stated: Any) -> Iterator[tuple[str, Any]]:
    """The arguments of what has a class path that are not built themselves."""
    arguments = getattr(stated, "init_args", None)
    for name, value in vars(arguments).items() if arguments is not None else ():
        if not hasattr(value, "as_dict"):
            yield name, value


def _code_of(path: str) -> Any:
    """The code that runs where a class or a function is called."""
    maker = imported(path)
    called = getattr(maker, "__init__", None) if inspect.isclass(maker) else maker
    return getattr(inspect.unwrap(called), "__code__", None) if called is not None else None
