"""The one place where a recipe's file is read, with sentences about one that is none."""

from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]

from limbeck.texts import read_yaml


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
    advice = "Expected a recipe (.yaml), as `limbeck recipes show shapes/student` shows one."
    try:
        if not path.is_file():
            found = "is not a file" if path.exists() else "does not exist"
            raise RecipeError(f"{path} {found}. {advice} Correct the path.")
        stated = read_yaml(path)
    except RecipeError:
        raise
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}. {advice}") from None
    except ValueError as error:
        raise RecipeError(f"{error} {advice} Correct it.") from None
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
    return stated
