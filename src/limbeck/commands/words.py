"""What argparse says of the words of a command line, in limbeck's own words."""

import difflib
import re
from argparse import Action, ArgumentParser

_MISSING = re.compile(r"the following arguments are required: (.+)")
_TOO_MANY = re.compile(r"unrecognized arguments: ((?!--)\S+)")  # options are told elsewhere
_NO_VALUE = re.compile(r"argument (?:\S+/)?(\S+): expected (?:one|at least one) argument")
_CHOICE = re.compile(r"argument (\S+): invalid choice: (.+?) \(choose from (.+)\)")
_NO_VERB = re.compile(r'expected "subcommand" to be one of \{(.+)\}')


def words_told(message: str, parser: ArgumentParser) -> str | None:
    """Say what argparse says: what was found, what was expected, what to do.

    Args:
        message: The message of argparse.
        parser: The parser that it comes from.

    Returns:
        The message in limbeck's words; None where it is of no known kind.
    """
    if found := _MISSING.search(message):
        return _missing(found[1].split(", "), parser)
    if found := _TOO_MANY.search(message):
        return (
            f"{found[1]!r} is one word too many. Expected: `{_usage(parser)}`. Remove it, or write "
            "the option that it is for."
        )
    if found := _NO_VALUE.search(message):
        return f"{found[1]} has no value. Expected one behind it. Give it, or leave {found[1]} out."
    if found := _NO_VERB.search(message):
        return f"`{_program(parser)}` lacks a word. Expected one of {_listed(found[1])}. Give one."
    if found := _CHOICE.search(message):
        choices, value = _listed(found[3]), found[2].strip("'")
        name = f"the word after `{_program(parser)}`" if found[1] == "subcommand" else found[1]
        near = difflib.get_close_matches(value, choices.split(", "), n=1, cutoff=0.5)
        nearest = f"\nNearest known: {near[0]}." if near else ""
        return f"{name} is {value!r}; expected one of {choices}. Give one of them.{nearest}"
    return None


def _missing(names: list[str], parser: ArgumentParser) -> str | None:
    """What is said of words that are missing; None where one of them is a key of a recipe."""
    lines = []
    for name in names:
        owner, action = _positional(name, parser)
        if action is None:
            return None
        help_ = " ".join((action.help or "a value").split()).partition(". ")[0].rstrip(".")
        expected = help_[:1].lower() + help_[1:]
        lines.append(f"{action.dest} is missing. Expected {expected}. Give it: `{_usage(owner)}`.")
    return "\n".join(lines)


def _positional(name: str, parser: ArgumentParser) -> tuple[ArgumentParser, Action | None]:
    """The parser and the action of a word without dashes; ``show.name`` is that of a subcommand."""
    verb, _, inner = name.partition(".")
    for action in parser._actions:
        if inner and isinstance(action.choices, dict) and verb in action.choices:
            return _positional(inner, action.choices[verb])
        if action.dest == name and not action.option_strings:
            return parser, action
    return parser, None


def _usage(parser: ArgumentParser) -> str:
    words = [
        f"{action.dest.upper()}{' ...' if action.nargs in ('+', '*') else ''}"
        for action in parser._actions
        if not action.option_strings and action.dest != "subcommand"
    ]
    return " ".join([_program(parser), *words, "[options]"])


def _program(parser: ArgumentParser) -> str:
    return parser.prog.replace(" [options]", "")


def _listed(choices: str) -> str:
    return ", ".join(each.strip(" '") for each in choices.split(","))
