"""The directive ``presets``, which writes what the presets of a detector do differently.

Its argument is the path of a mapping of presets, such as ``limbeck.presets.RETINANET``. Its option
``beside`` is the path of another one, whose fields are left out: they have a table of their own.
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar

from docstring_parser import parse
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def preset_lines(presets: Mapping[str, Any], beside: Mapping[str, Any] | None = None) -> list[str]:
    """A table in Markdown: a line for each field, and a column for each preset."""
    kind = type(next(iter(presets.values())))
    told = _told_of_fields(kind)
    common = {each.name for each in fields(next(iter(beside.values())))} if beside else set()
    heads = ["field of the preset", *presets]
    rows = [
        [f"`{each.name}`: {told[each.name]}", *(_value(p, each.name) for p in presets.values())]
        for each in fields(kind)
        if each.name not in common
    ]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]


def _told_of_fields(kind: type) -> dict[str, str]:
    """What the docstrings of a class and of those that it derives from say of their fields."""
    return {
        said.args[1]: " ".join((said.description or "").split()).replace("``", "`")
        for parent in reversed(kind.__mro__)
        for said in parse(parent.__doc__ or "").meta
        if said.args[0] == "attribute"
    }


def _value(preset: object, name: str) -> str:
    value = getattr(preset, name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str | int | tuple):
        return str(value).replace("_", " ")
    made = getattr(value, "func", value)  # of a function with some of its arguments
    return f"`{made.__name__}`"


class Presets(SphinxDirective):
    """Writes the table."""

    required_arguments = 1
    option_spec: ClassVar = {"beside": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """The table, as MyST reads it."""
        beside = self.options.get("beside")
        presets = pkgutil.resolve_name(self.arguments[0])
        lines = preset_lines(presets, pkgutil.resolve_name(beside) if beside else None)
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of the directive."""
    app.add_directive("presets", Presets)
    return {"parallel_read_safe": True}
