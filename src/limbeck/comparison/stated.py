"""The file of a comparison: its recipes are found and read, and its keys are checked."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from limbeck.comparison.comparison import Comparison, Controls
from limbeck.recipe import Recipe, Recipes, with_parts
from limbeck.texts import YAML_SUFFIXES, read_yaml

# Models and recipes, which jsonargparse would build.
_RECIPES = ("plain", "rows", "teacher", "teacher_recipe", "scored_on")
KEYS = tuple(field.name for field in fields(Comparison))
_ADVICE = (
    "Expected a comparison (.yaml) with the keys `plain` and `rows`, see "
    "https://limbeck.readthedocs.io/en/latest/guides/comparing.html."
)


def read_comparison(path: Path, named: Callable[[str], Path] | None = None) -> Comparison:
    """Read the file of a comparison.

    A recipe in it is the path of a file, seen from the folder of the comparison or from where one
    is; or a name that ``named`` finds; or what a recipe would state, as a mapping; or a list of
    such, each laid over the ones before it.

    Args:
        path: The file.
        named: Finds a recipe by its name. None: recipes have no names.

    Returns:
        The comparison.

    Raises:
        FileNotFoundError: The file, or a recipe that it names, is not there.
        ValueError: It is no comparison; the message names the key.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file. {_ADVICE} Correct the path.")
    stated = read_yaml(path)
    if not isinstance(stated, Mapping):
        raise ValueError(f"{path} is a {type(stated).__name__}. {_ADVICE} Correct it.")
    _refuse_unknown(stated, path)

    def found(key: str, value: Any) -> Recipes:
        several = value if isinstance(value, list) else [value]
        if not several:
            raise ValueError(f"{path}: {key} is an empty list; expected a recipe, or several")
        return tuple(_recipe(each, f"{path}: {key}", path.parent, named) for each in several)

    rows = stated["rows"]
    if not isinstance(rows, Mapping):
        raise ValueError(
            f"{path}: rows is {rows!r}; expected a mapping from the name of each row to its recipe"
        )
    values = {"title": path.stem, **stated}
    values["plain"] = found("plain", stated["plain"])
    values["rows"] = {str(name): found(f"rows.{name}", each) for name, each in rows.items()}
    teacher = stated.get("teacher")
    if isinstance(teacher, Mapping) and set(teacher) == {"recipe"}:
        values |= {"teacher": None, "teacher_recipe": found("teacher.recipe", teacher["recipe"])}
    return _checked(values, path)


def _recipe(value: Any, where: str, folder: Path, named: Callable[[str], Path] | None) -> Recipe:
    if isinstance(value, Mapping):
        return with_parts(value, folder)
    if not isinstance(value, str):
        raise ValueError(
            f"{where} is {value!r}; expected the path or the name of a recipe, or what it states"
        )
    for path in (folder / value, Path(value)):
        if path.is_file():
            break
    else:
        if named is None or value.endswith(YAML_SUFFIXES):
            raise FileNotFoundError(
                f"{where} names {value}, which is not a file; expected a recipe, seen from "
                f"{folder} or from where you are. Correct the path, or give a name of `limbeck "
                "recipes list`."
            )
        path = named(value)
    stated = read_yaml(path)
    if not isinstance(stated, Mapping):
        raise ValueError(f"{path} is a {type(stated).__name__}; expected a recipe, a mapping")
    return with_parts(stated, path.parent)


def _refuse_unknown(stated: Mapping[str, Any], path: Path) -> None:
    known = [key for key in KEYS if key != "teacher_recipe"]
    for key in stated:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"{path}: there is no key {key!r}; expected some of {', '.join(known)}.{meant}"
            )
    if missing := [key for key in ("plain", "rows") if key not in stated]:
        raise ValueError(f"{path} lacks {' and '.join(missing)}. {_ADVICE}")


def _checked(values: Mapping[str, Any], path: Path) -> Comparison:
    """The comparison of these values, whose types are checked."""
    recipes = {key: value for key, value in values.items() if key in _RECIPES}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Comparison, "of", skip=set(_RECIPES))
    try:
        others = {key: value for key, value in values.items() if key not in _RECIPES}
        parsed = parser.parse_object({"of": others}).of.as_dict()
        controls = Controls(**parsed.pop("controls"))
        return Comparison(**parsed, **recipes, controls=controls)
    except (ArgumentError, ValueError) as error:
        said = str(error).replace('"of.', '"').replace("of.", "", 1)
        raise ValueError(f"{path}: {said}") from None
