"""Recipes as texts in which a sentence stands above what it is about."""

import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

_WIDTH = 110  # columns of a comment
_FLOW = 100  # columns of a mapping or list that stands on one line


class Chosen(NamedTuple):
    """A value, and why it is what it is.

    Attributes:
        value: The value, as a recipe states it. Mappings in it may have such values, too.
        why: One sentence or more.
    """

    value: Any
    why: str


def as_text(command: str, purpose: str, recipe: Mapping[str, Any]) -> str:
    """Write a recipe, with what was said of its values as comments.

    Args:
        command: What stands first: how it is run.
        purpose: What stands second: what it is for.
        recipe: The recipe, whose values may be :class:`Chosen`.

    Returns:
        YAML.
    """
    lines = [f"# {line}" for line in (command, *textwrap.wrap(purpose, _WIDTH))]
    _write(recipe, 0, lines)
    return "\n".join(lines) + "\n"


def plain(value: Any) -> Any:
    """A value without what was said of it, at any depth."""
    if isinstance(value, Chosen):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def _write(recipe: Mapping[str, Any], depth: int, lines: list[str]) -> None:
    indent = "  " * depth
    for key, value in recipe.items():
        if isinstance(value, Chosen):
            comment = textwrap.wrap(value.why, _WIDTH - len(indent), break_long_words=False)
            lines += [f"{indent}# {line}" for line in comment]
            value = value.value
        name, flow = _flow(key), _flow(plain(value))
        fits = len(indent) + len(name) + len(flow) < _FLOW and depth
        if isinstance(value, Mapping) and value and (_has_words(value) or not fits):
            lines.append(f"{indent}{name}:")
            _write(value, depth + 1, lines)
        else:
            lines.append(f"{indent}{name}: {flow}")


def _has_words(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_words, value.values()))
    return isinstance(value, Chosen)


def _flow(value: Any) -> str:
    """A value on one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("...\n").strip()
