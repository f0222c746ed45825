"""``limbeck completion``: the script by which a shell completes commands of limbeck."""

import sys
from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Sequence
from typing import Any, Literal

import shtab

from limbeck.commands import VERBS
from limbeck.commands.parsing import VerbParser, parser_of


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck completion``.

    Args:
        arguments: The verb, and the words that follow it.
    """
    parser = VerbParser(prog="limbeck completion", allow_abbrev=False)
    parser.add_function_arguments(completion, as_positional=True)
    completion(**parser.parse_args(arguments[1:]).as_dict())


def completion(shell: Literal["bash", "zsh"]) -> None:
    """Print the script by which a shell completes verbs, options, keys of recipes and files.

    For bash, write it to ~/.local/share/bash-completion/completions/limbeck; for zsh, to the file
    _limbeck in a folder of fpath. Open another shell then, and do the same after an update.

    Args:
        shell: The shell.
    """
    sys.stdout.write(shtab.complete(all_words(), shell) + "\n")


def all_words() -> ArgumentParser:
    """A parser of all verbs with their options, as shtab reads it; nothing is parsed by it."""
    parser = ArgumentParser("limbeck")
    parser.add_argument("--version", action="store_true", help="tell the version")
    verbs = parser.add_subparsers()
    for verb in VERBS:
        copied = verbs.add_parser(verb.name, help=verb.help, add_help=False)
        _copy(parser_of([verb.name], verb.module), copied)
    return parser


def _copy(source: ArgumentParser, target: ArgumentParser) -> None:
    """Copy what is completed: the words of a subcommand, options, their choices, and files."""
    for action in source._actions:
        if isinstance(action.choices, dict):
            inner = target.add_subparsers()
            for name, parser in action.choices.items():
                told = (parser.description or "").partition("\n")[0]
                _copy(parser, inner.add_parser(name, help=told, add_help=False))
        elif action.help != SUPPRESS and not str(action.option_strings[-1:]).endswith(".help']"):
            names = action.option_strings or [action.dest]
            copied: Any = target.add_argument(*names, **_shape_of(action))
            if copied.nargs != 0 and not copied.choices:
                copied.complete = shtab.FILE


def _shape_of(action: Action) -> dict[str, Any]:
    """What is said of an option, up to its first full stop, and which words may follow it."""
    said = str(action.help or "").partition(". ")[0].replace("\n", " ").rstrip(".")
    shape: dict[str, Any] = {"help": said.replace("%", "%%")}
    if action.nargs == 0:
        return shape | {"action": "store_true"}
    kind = getattr(action, "_typehint", None)
    words = getattr(kind, "__args__", ()) if getattr(kind, "__origin__", None) is Literal else ()
    return shape | ({"choices": [str(word) for word in words]} if words else {})
