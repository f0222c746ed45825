"""The directive ``command-line``, which writes what a parser of limbeck takes.

It has the words of a command as its argument. Its option ``under`` leaves the keys alone that begin
with a prefix, such as ``model.optimizer``; without it, dotted keys are left out: they are a
recipe's, and ``limbeck fit`` has a hundred of them. Its option ``keys`` says which of those under
the prefix are written, and in which order.
"""

import re
from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from inspect import cleandoc
from types import GenericAlias
from typing import ClassVar, get_type_hints

import docstring_parser
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from limbeck.commands import VERBS, parsing
from limbeck.training import DistillationModule

_FILE = "Path to a configuration file."  # of a group of keys, which a recipe states
_NOT_SHOWN = (".help", "-h", "--help", "--print_shtab")


def parser_of(command: str) -> ArgumentParser:
    """The parser that tells the help of a command, such as ``data convert``."""
    words = command.split()
    (module,) = (verb.module for verb in VERBS if verb.name == words[0])
    return parsing.parser_of(words, module)


def options_of(parser: ArgumentParser, under: str | None) -> Iterator[Action]:
    """The arguments of a parser that are a user's to give."""
    for action in parser._actions:
        shown = [name for name in names_of(action) if not name.endswith(_NOT_SHOWN)]
        if not shown or action.help == _FILE or "applied on parse" in str(action.metavar):
            continue
        key = action.dest
        if key.startswith(f"{under}.") if under else "." not in key and action.help != SUPPRESS:
            yield action


def names_of(action: Action) -> list[str]:
    """What an argument is called on the command line; of two spellings the documented one."""
    names = [name for name in action.option_strings if not name.endswith("+")]
    return [name for name in names if name.replace("-", "_") not in names or "_" in name[2:]] or (
        [] if action.option_strings else [str(action.dest).upper()]
    )


def type_of(action: Action) -> str:
    """The type of a value in Python's words, without the modules of the classes."""
    stated = getattr(action, "_typehint", None)
    if stated is None:
        return ""
    plain = isinstance(stated, type) and not isinstance(stated, GenericAlias)
    written = stated.__name__ if plain else str(stated)
    written = re.sub(r"Optional\[(.*)\]$", r"\1 | None", re.sub(r"\b(\w+\.)+", "", written))
    return re.sub(r"Union\[(.*)\]", lambda union: union[1].replace(", ", " | "), written)


def default_of(action: Action) -> str:
    """The default of an argument; empty where it has none."""
    if action.default in (None, SUPPRESS) or (action.default is False and action.nargs == 0):
        return ""
    return f"`{action.default}`"


def said_of(action: Action) -> str:
    """What is said of an argument, as Markdown in one line, with its default."""
    said = action.help if action.help not in (None, SUPPRESS) else fields().get(action.dest, "")
    said = re.sub(r":\w+:`~(?:[\w.]*\.)?(\w+)`", r"`\1`", " ".join(cleandoc(said).split()))
    said = re.sub(r":\w+:`(?:[^`<]*<)?([^`>]*)>?`", r"`\1`", said)
    default = default_of(action)
    if default:  # which may be limbeck's where a library says its own
        said = re.sub(r" ?Default: ``[^`]*``\.?", "", said)
    told = f"Default: {default}." if default and "Default" not in said else ""
    return f"{said} {told}".strip()


@cache
def fields() -> dict[str, str]:
    """What the docstrings of dataclasses say of their fields, which are keys of ``model``."""
    classes = {
        name: kind
        for name, kind in get_type_hints(DistillationModule.__init__).items()
        if is_dataclass(kind)
    }
    return {
        f"model.{name}.{told.args[1]}": told.description or ""
        for name, kind in classes.items()
        for told in docstring_parser.parse(kind.__doc__ or "").meta
        if told.args[0] == "attribute"
    }


class CommandLine(SphinxDirective):
    """Writes a definition for each argument of a command."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar = {"under": directives.unchanged, "keys": str.split}

    def run(self) -> list[nodes.Node]:
        """The definitions, as MyST reads them."""
        under, keys = self.options.get("under"), self.options.get("keys")
        options = list(options_of(parser_of(self.arguments[0]), under))
        if keys:
            by_key = {action.dest.removeprefix(f"{under}."): action for action in options}
            options = [by_key[key] for key in keys]
        lines: list[str] = []
        for action in options:
            names = [name.removeprefix("--") if under else name for name in names_of(action)]
            written = ", ".join(f"`{name}`" for name in names)
            kind = type_of(action)
            lines += [f"{written}" + (f" *{kind}*" if kind else ""), f": {said_of(action)}", ""]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
