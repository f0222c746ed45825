"""The one place where a recipe's file is read, with sentences about one that is none."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]
from jsonargparse import Path as PartPath  # type: ignore[attr-defined]

from limbeck.commands.errors import RecipeError
from limbeck.commands.parsing import known_keys
from limbeck.recipe import laid_over, of_another_class
from limbeck.texts import MOST_YAML, SAFE_LOADER, check_yaml, load_yaml, read_text

_ADVICE = "Expected a recipe (.yaml), as `limbeck recipes show shapes/student` shows one."


class RecipeFile(ActionConfigFile):
    """``--config`` of a recipe, whose file is looked at before the parser takes it."""

    def __call__(
        self, parser: Any, cfg: Any, values: Any, option_string: str | None = None
    ) -> None:
        """Check the recipe, and lay it over what was given before."""
        below, stated = _files_before(cfg.get(self.dest)), {}
        if str(values).lstrip().startswith("{"):  # the parser takes recipes as text, too
            with _in_words("--config"):
                check_yaml(str(values), "--config")
        else:
            stated = read_recipe(Path(values))
            _refuse_unknown_empty(stated, parser)
        own = laid_over([stated])
        taken = values if own == stated else yaml.safe_dump(own, default_flow_style=True)
        super().__call__(parser, cfg, taken, option_string)  # type: ignore[no-untyped-call]
        if stated:
            cfg[self.dest][-1] = PartPath(values)  # by whose name the folder of a run goes
        if below and stated:
            self._lay_over(below, stated, parser, cfg)

    def _lay_over(
        self, below: dict[str, Any], stated: dict[str, Any], parser: Any, cfg: Any
    ) -> None:
        """State again what both recipes say together, as `limbeck compare` would.

        The parser by itself takes a mapping such as model.methods from the last recipe alone, and
        leaves the arguments of a class to the other class that takes its place.
        """
        for key in of_another_class(below, stated):
            _clear(cfg, key.split("."))
        both = laid_over([below, stated])
        again = {
            section: {key: both[section][key] for key in value}
            for section, value in stated.items()
            if isinstance(value, dict)
        }
        files = list(cfg[self.dest])
        text = yaml.safe_dump(again, default_flow_style=True)
        super().__call__(parser, cfg, text)  # type: ignore[no-untyped-call]
        cfg[self.dest] = files


def _files_before(files: Any) -> dict[str, Any]:
    """What the recipes that were given before state together; a text is none of them."""
    paths = [Path(path.absolute) for path in files or () if path is not None]
    return laid_over([read_recipe(path) for path in paths])


def _clear(cfg: Any, key: list[str]) -> None:
    """Forget what stands at a dotted key, where something does."""
    *outer, last = key
    for name in outer:
        cfg = cfg.get(name)
        if not hasattr(cfg, "get"):
            return
    if cfg.get(last) is not None:
        cfg[last] = None


def _refuse_unknown_empty(stated: dict[str, Any], parser: Any) -> None:
    """Refuse unknown keys without anything below them, which the parser would pass over."""
    known = {key.partition(".")[0] for key in known_keys(parser)}
    for key, value in stated.items():
        if value == {} and key not in known:
            parser.error(f"Key does not accept option '{key}'")


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe.

    Args:
        path: Its file.

    Returns:
        What it states, as nested mappings.

    Raises:
        RecipeError: The file cannot be read, is no YAML, or states something else than a recipe.
    """
    with _in_words(path):
        stated = load_yaml(_text_of(path), str(path), SAFE_LOADER)
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


def _text_of(path: Path) -> str:
    if not path.is_file():
        found = "is not a file" if path.exists() else "does not exist"
        raise RecipeError(f"{path} {found}. {_ADVICE} Correct the path.")
    return read_text(path, MOST_YAML)


@contextmanager
def _in_words(origin: object, advice: str = _ADVICE) -> Iterator[None]:
    try:
        yield
    except RecipeError:
        raise
    except OSError as error:
        raise RecipeError(f"{origin} cannot be read: {error.strerror}. {advice}") from None
    except ValueError as error:
        raise RecipeError(f"{error} {advice} Correct it.") from None


def _text_of_part(path: Any) -> str:
    """The text of a file that a recipe or the command line names in the place of a value."""
    with _in_words(path, "Expected a part of a recipe (YAML)."):
        text = _text_of(Path(path.absolute))
        check_yaml(text, str(path))
    return text


# The parser reads every such file through this method, whichever key names it, and at any depth.
PartPath.read_text = _text_of_part  # type: ignore[assignment,method-assign]
