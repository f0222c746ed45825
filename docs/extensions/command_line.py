"""The directive ``command-line``, which writes what a parser of limbeck takes.

It has the words of a command as its argument. Its option ``under`` leaves the keys alone that begin
with a prefix, such as ``model.optimizer``; without it, dotted keys are left out: they are a
recipe's, and ``limbeck fit`` has a hundred of them.
"""

import re
from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterator
from contextlib import suppress
from inspect import cleandoc
from types import GenericAlias
from typing import ClassVar
from unittest.mock import patch

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from limbeck.commands import run

_NOT_SHOWN = (".help", "-h", "--help", "--print_shtab")


def parser_of(command: str) -> ArgumentParser:
    """The parser that tells the help of a command, such as ``data convert``."""
    asked: list[ArgumentParser] = []
    with (
        patch("argparse.ArgumentParser.print_help", lambda parser, *_: asked.append(parser)),
        patch("jsonargparse.ArgumentParser.print_help", lambda parser, *_: asked.append(parser)),
        suppress(SystemExit),
    ):
        run([*command.split(), "--help"])
    return asked[0]


def options_of(parser: ArgumentParser, under: str | None) -> Iterator[Action]:
    """The arguments of a parser that are a user's to give."""
    for action in parser._actions:
        shown = [name for name in names_of(action) if not name.endswith(_NOT_SHOWN)]
        if not shown or "applied on parse" in str(action.metavar):
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


class CommandLine(SphinxDirective):
    """Writes a definition for each argument of a command."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar = {"under": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """The definitions, as MyST reads them."""
        under = self.options.get("under")
        lines: list[str] = []
        for action in options_of(parser_of(self.arguments[0]), under):
            names = [name.removeprefix("--") if under else name for name in names_of(action)]
            written = ", ".join(f"`{name}`" for name in names)
            kind = type_of(action)
            said = cleandoc(action.help) if action.help not in (None, SUPPRESS) else ""
            told = f"Default: {default_of(action)}." if default_of(action) else ""
            given = told if "Default" not in said else ""
            body = " ".join([*said.split(), given]).strip() or "As its type says."
            lines += [f"{written}" + (f" *{kind}*" if kind else ""), f": {body}", ""]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
