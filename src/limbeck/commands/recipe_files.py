"""The one place where a recipe's file is read, with sentences about one that is none."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]
from jsonargparse import Path as PartPath  # type: ignore[attr-defined]

from limbeck.commands.errors import RecipeError
from limbeck.commands.parsing import known_keys
from limbeck.recipe import of_another_class, with_parts
from limbeck.texts import MOST_YAML, SAFE_LOADER, check_yaml, load_yaml, read_text

# Mappings of a recipe by names of the user's choice.
_BY_NAME = (
    *("model.methods", "model.teachers", "model.transfer"),
    *("model.optimizer.lr_factors", "model.optimizer.weight_decays"),
)
_ADVICE = "Expected a recipe (.yaml), as `limbeck recipes show shapes/student` shows one."

_PART = "Expected a part of a recipe (YAML)."


class RecipeFile(ActionConfigFile):
    """``--config`` of a recipe, whose file is looked at before the parser takes it.

    Several lie over each other as in `limbeck compare`. The parser by itself takes a mapping such
    as model.methods from the last one alone, and leaves the arguments of a class to another class
    that takes its place.
    """

    def __call__(
        self, parser: Any, cfg: Any, values: Any, option_string: str | None = None
    ) -> None:
        """Check the recipe, and lay it over what was given before."""
        is_text = str(values).lstrip().startswith("{")
        if is_text:  # the parser takes recipes as text, too
            with _in_words("--config"):
                stated = load_yaml(str(values), "--config", SAFE_LOADER)
        else:
            stated = read_recipe(Path(values))
            _refuse_unknown_empty(stated, parser)
        below = cfg.clone()
        for keys in of_another_class(below.as_dict(), stated):
            _clear(cfg, *keys)
        taken, path = _without_none(stated), None if is_text else PartPath(values)
        seen_from: AbstractContextManager[Any] = nullcontext()
        if taken != stated:
            values = yaml.safe_dump(taken, default_flow_style=True, sort_keys=False)
            seen_from = path.relative_path_context() if path else seen_from
        with seen_from:  # the files that a recipe names
            super().__call__(parser, cfg, values, option_string)  # type: ignore[no-untyped-call]
        cfg[self.dest][-1] = path
        _put_back(below, cfg, stated)


def _without_none(stated: dict[str, Any], names: tuple[str, ...] = _BY_NAME) -> dict[str, Any]:
    """A recipe without methods, teachers, transfers and factors that are None."""
    left = dict(stated)
    for name in names:
        key, _, rest = name.partition(".")
        inner = left.get(key)
        if isinstance(inner, dict):
            kept = {k: v for k, v in inner.items() if v is not None}
            left[key] = _without_none(inner, (rest,)) if rest else kept
    return left


def _clear(cfg: Any, *keys: str) -> None:
    """Forget what the keys lead to."""
    *outer, last = keys
    for name in outer:
        cfg = cfg.get(name)
    cfg[last] = None


def _put_back(below: Any, cfg: Any, stated: Mapping[str, Any]) -> None:
    """Put back into mappings by names what a recipe says nothing of."""
    for key, value in stated.items():
        old, new = below.get(key), cfg.get(key)
        if not (isinstance(value, Mapping) and hasattr(old, "get") and hasattr(new, "get")):
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            left = {name: each for name, each in old.items() if name not in value}
            cfg[key] = new = left | new
        _put_back(old, new, value)


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
    with _in_words(path, _PART):
        return with_parts(stated, path.parent)


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
    with _in_words(path, _PART):
        text = _text_of(Path(path.absolute))
        check_yaml(text, str(path))
    return text


# The parser reads every such file through this method, whichever key names it, and at any depth.
PartPath.read_text = _text_of_part  # type: ignore[assignment,method-assign]
