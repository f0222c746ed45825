"""What recipes state, as nested mappings: laid over each other, looked up, and compared."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.texts import YAML_SUFFIXES, read_yaml

Recipe = dict[str, Any]
Recipes = tuple[Recipe, ...]  # each laid over the ones before it

_MISSING = "nothing"


# What may stand in a file of its own, and mappings whose values may.
_PARTS = {
    "model": ("student", "teacher", "optimizer", "learning_rate"),
    "model.methods": (),
    "model.teachers": (),
    "data": ("train", "val", "unlabelled", "augmentation"),
}


def with_parts(recipe: Mapping[str, Any], folder: Path) -> Recipe:
    """A recipe whose parts in files of their own are read, such as ``student: student.yaml``.

    Args:
        recipe: The recipe. A text that is the path of no YAML file is left as it is.
        folder: The folder of its file, from which the paths are seen.

    Returns:
        The recipe with what the files state in the place of their paths.

    Raises:
        ValueError: A file is no YAML; its key is named.
    """
    whole: Recipe = dict(recipe)
    for key, names in _PARTS.items():
        *outer, last = key.split(".")
        holder: Any = whole
        for name in outer:
            holder = holder.get(name)
        inner = holder.get(last) if isinstance(holder, Mapping) else None
        if isinstance(inner, Mapping):
            there = [name for name in names or inner if name in inner]
            read = {name: _part(f"{key}.{name}", inner[name], folder) for name in there}
            holder[last] = {**inner, **read}
    return whole


def _part(key: str, value: Any, folder: Path) -> Any:
    names_yaml = isinstance(value, str) and value.endswith(YAML_SUFFIXES)
    if not (names_yaml and (folder / value).is_file()):
        return value
    try:
        return read_yaml(folder / value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def laid_over(recipes: Sequence[Mapping[str, Any]]) -> Recipe:
    """What recipes state together, each laid over the ones before it.

    Args:
        recipes: The recipes. Where two name different classes at one place, the later one's
            arguments are taken alone. None takes the place of what is below.

    Returns:
        One recipe.
    """
    below: Recipe = {}
    for recipe in recipes:
        below = _over(below, recipe)
    return below


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> Recipe:
    if _is_of_another_class(below, above):
        return dict(above)
    if "class_path" in below and not above.keys() & {"class_path", "init_args", "dict_kwargs"}:
        above = {"init_args": above}  # a class that need not be named, such as an augmentation
    both = dict(below)
    for key, value in above.items():
        old = below.get(key)
        nested = isinstance(value, Mapping) and isinstance(old, Mapping)
        both[key] = _over(old, value) if nested else value  # type: ignore[arg-type]
    return both


def _is_of_another_class(below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    one, other = (str(each.get("class_path") or "") for each in (below, above))
    if not other or "." not in one or "." not in other:  # limbeck's own go by their last word, too
        one, other = one.rpartition(".")[2], (other or one).rpartition(".")[2]
    return one != other


def of_another_class(
    below: Mapping[str, Any], above: Mapping[str, Any], outer: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Find where a recipe names another class than the one below it.

    Args:
        below: The recipe below.
        above: The recipe that is laid over it.
        outer: The keys that lead to both.

    Yields:
        The keys that lead to what is replaced as a whole; each may have dots in it.
    """
    for key, value in above.items():
        old = below.get(key)
        if not isinstance(old, Mapping):
            continue
        if isinstance(value, str) and "class_path" in old:
            yield (*outer, key)  # a class without arguments
        elif isinstance(value, Mapping) and _is_of_another_class(old, value):
            yield (*outer, key)
        elif isinstance(value, Mapping):
            yield from of_another_class(old, value, (*outer, key))


def value_at(recipe: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key of a recipe, or None where it states none."""
    found: Any = recipe
    for part in key.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found


def stating(key: str, value: Any) -> Recipe:
    """A recipe that states one value, at a dotted key."""
    for part in reversed(key.split(".")):
        value = {part: value}
    stated: Recipe = value
    return stated


def differences(
    begun: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Compare two recipes.

    Args:
        begun: One recipe, as nested dicts.
        now: The other recipe.
        prefix: What stands before every key.

    Yields:
        Each dotted key whose values differ, and a line that says how.
    """
    for key in sorted(begun.keys() | now.keys()):
        old, new = begun.get(key, _MISSING), now.get(key, _MISSING)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}", f"{prefix}{key} was {_short(old)}, is {_short(new)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 80 else f"{text[:77]}..."
