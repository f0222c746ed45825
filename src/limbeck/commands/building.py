"""What is told where other libraries cannot build what a recipe states."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser

from limbeck.commands.errors import of_ours, raised_in
from limbeck.commands.in_words import key_of, reasons_in
from limbeck.commands.parsing import Explaining
from limbeck.commands.recipe_files import RecipeError

REFUSALS = (MisconfigurationException,)  # of Lightning's, whenever it finds out

# How messages of limbeck's begin that are about one argument: its name, and its value.
_NAMED = re.compile(r"(\w+)(?: is |=)'?(.+?)'?(?:;|: )")


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
            found = _NAMED.match(str(ours))
            key = key_of(stated, found[2], found[1]) if found and type(ours) is ValueError else ""
            if not found or not key:
                raise
            raise RecipeError(key + str(ours).removeprefix(found[1])) from error
        reasons, value = reasons_in(str(error))
        if raised_in(error) == "jsonargparse" and reasons:
            key = key_of(stated, value)
            raise RecipeError(
                f"{f'{key}: ' if key else ''}{' '.join(reasons)}\nCorrect that in the recipe."
            ) from error
        if raised_in(error) == "lightning" and isinstance(error, kinds):
            raise RecipeError(
                f"trainer: Lightning does not take what the recipe states ({error}). Expected a "
                "trainer that this machine can make. Correct the key that is named."
            ) from error
        raise
