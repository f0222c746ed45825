"""The one place where a recipe's file is read, with sentences about one that is none."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]

from limbeck.texts import check_yaml

LARGEST = 4_000_000  # bytes
MOST_VALUES = 200_000  # with what aliases repeat
DEEPEST = 100  # mappings and lists within each other


class RecipeError(ValueError):
    """A recipe that cannot be used, as the user is told."""


class RecipeFile(ActionConfigFile):
    """``--config`` of a recipe, whose file is looked at before the parser takes it."""

    def __call__(
        self, parser: Any, cfg: Any, values: Any, option_string: str | None = None
    ) -> None:
        """Check the file, and lay the recipe over what was given before."""
        if not str(values).lstrip().startswith("{"):  # the parser takes recipes as text, too
            read_recipe(Path(values))
        super().__call__(parser, cfg, values, option_string)  # type: ignore[no-untyped-call]


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe.

    Args:
        path: Its file.

    Returns:
        What it states, as nested mappings.

    Raises:
        RecipeError: The file cannot be read, is no YAML, or states something else than a recipe.
    """
    text = _text_of(path)
    try:
        check_yaml(text, str(path))
    except ValueError as error:
        raise RecipeError(str(error)) from None
    try:
        stated = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "some line"
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise RecipeError(
            f"{path} is no valid YAML at {where}: {problem}. Expected a recipe, such as `limbeck "
            "recipes show shapes/student` shows one. Correct that line."
        ) from None
    except (RecursionError, ValueError, TypeError, AttributeError) as error:  # bad dates, tags
        reason = "too deep" if isinstance(error, RecursionError) else str(error)
        raise RecipeError(
            f"{path} is no valid YAML: {reason}. Expected a recipe of mappings within mappings. "
            "Correct it."
        ) from None
    if stated is None:
        return {}
    if not isinstance(stated, dict):
        raise RecipeError(
            f"{path}: the recipe is a {type(stated).__name__}; expected a mapping with the keys "
            "model, data and trainer. Correct it, or give another file."
        )
    for section in ("model", "data", "trainer"):
        if not isinstance(stated.get(section), dict | None):
            raise RecipeError(
                f"{path}: {section} is {stated[section]!r}; expected a mapping. Correct it."
            )
    _refuse_endless(stated, path)
    return stated


def _text_of(path: Path) -> str:
    """The text of a file."""
    advice = "Expected the path of a recipe (.yaml). Correct it."
    try:
        if not path.is_file():
            found = "is not a file" if path.exists() else "does not exist"
            raise RecipeError(f"{path} {found}. {advice}")
        if path.stat().st_size > LARGEST:
            raise RecipeError(f"{path} has more than {LARGEST} bytes. {advice}")
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}. {advice}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path} is no text in UTF-8: its byte {error.start} is {error.object[error.start]}. "
            "Expected a recipe (YAML). Save it as UTF-8."
        ) from None


def _refuse_endless(stated: Any, path: Path) -> None:
    """Refuse what aliases blow up: more values than any recipe has, or endlessly nested ones."""
    waiting, counted = [(stated, 1)], 0
    while waiting:
        value, depth = waiting.pop()
        inner = value.values() if isinstance(value, Mapping) else value
        if not isinstance(value, Mapping | list):
            continue
        counted += len(value)
        if counted > MOST_VALUES or depth > DEEPEST:
            raise RecipeError(
                f"{path} states more than {MOST_VALUES} values, or more than {DEEPEST} within each "
                "other, as an alias (*) that contains itself does. Expected a recipe. Write out "
                "what is meant."
            )
        waiting += [(each, depth + 1) for each in inner]
