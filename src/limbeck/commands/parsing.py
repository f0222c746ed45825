"""The parsers of the verbs, which tell in limbeck's own words what they refuse."""

import difflib
import logging
import pkgutil
import re
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import jsonargparse

from limbeck.commands.errors import RecipeError
from limbeck.commands.in_words import arguments_of, first_unknown, in_words, key_in
from limbeck.commands.words import words_told

log = logging.getLogger(__name__)

_OF_THE_PARSER = (".help", "--help", "--print_shtab")


class Explaining:
    """The part of a parser that ends the program in limbeck's own words."""

    exit_on_error: bool
    asked: "list[Any] | None" = None  # the parsers that were asked for, in all classes

    def print_help(self, file: Any = None) -> None:
        """Print what the parser takes, unless it is the parser itself that is asked for."""
        if Explaining.asked is None:
            super().print_help(file)  # type: ignore[misc]
        else:
            Explaining.asked.append(self)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End the program with the message, unless an outer parser is to do so."""
        if not self.exit_on_error:
            outer: Any = super()
            outer.error(message, ex)
        parser: Any = self
        log.error("%s", _of_a_part(message, ex) or explain(message, parser))
        raise SystemExit(2) from ex


class VerbParser(Explaining, jsonargparse.ArgumentParser):
    """The parser of a verb's own arguments."""

    def add_flags(self, meanings: Mapping[str, str]) -> None:
        """Add options that take no value.

        Args:
            meanings: What each does, by its name.
        """
        for name, meaning in meanings.items():
            self.add_argument(f"--{name}", action="store_true", help=meaning)


class WordParser(Explaining, ArgumentParser):
    """A parser of a few words, which leaves all others to another parser."""


def _of_a_part(message: str, error: BaseException | None) -> str | None:
    """What is said of a file that a key names in the place of a value, with that key."""
    while error is not None and not isinstance(error, RecipeError):
        error = error.__cause__
    key = key_in(message)
    return f"{key}: {error}" if error and key else None


def explain(message: str, parser: ArgumentParser) -> str:
    """Say a parser's message in limbeck's words, with the nearest known keys to an unknown one.

    Args:
        message: The message of jsonargparse.
        parser: The parser of the verb, which knows the keys.

    Returns:
        What the user is told, with a second line where there are near keys.
    """
    known = known_keys(parser)
    said = words_told(message, parser) or in_words(message, known)
    if isinstance(parser, VerbParser) and said.partition(" ")[0] in known:
        said = f"--{said}"
    inner = re.search(r"class_path '([\w.]+)':\s+Option '([\w.]+)' is not accepted", message)
    if inner:
        return said + _nearest(inner[2], arguments_of(inner[1]))
    outer = re.search(r"does not accept option '([\w.]+)'|arguments: --([\w.]+)", message)
    if outer:
        return said + _nearest(outer[1] or outer[2], known, "--" if outer[2] else "")
    name = re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message)
    if name:
        return said + _nearest(name[2], dir(pkgutil.resolve_name(name[1])))
    return said


def parser_of(words: Sequence[str], module: str) -> ArgumentParser:
    """The parser that a verb makes when it is run, which is asked for its help and shows none.

    Args:
        words: The verb, and a word of it such as the ``inspect`` of ``data``.
        module: The module of the verb.

    Returns:
        The parser.
    """
    asked: list[ArgumentParser] = []
    Explaining.asked = asked
    try:
        with suppress(SystemExit):
            import_module(module).run([*words, "--help"])
    finally:
        Explaining.asked = None
    return asked[0]


def known_keys(parser: ArgumentParser) -> set[str]:
    """All keys that a parser takes, including those of its subcommands."""
    keys: set[str] = set()
    for action in parser._actions:
        options = {o for o in action.option_strings if re.fullmatch(r"--[\w.]+", o)}
        keys |= {o.removeprefix("--") for o in options if not o.endswith(_OF_THE_PARSER)}
        if isinstance(action.choices, dict):
            for subparser in action.choices.values():
                keys |= known_keys(subparser)
    return keys


def _nearest(key: str, known: Iterable[str], dashes: str = "") -> str:
    """A line with the keys that may be meant by the first part of a dotted key that is unknown."""
    outer, part, there = first_unknown(key, list(known))
    near = difflib.get_close_matches(part, there, n=3, cutoff=0.5) if part not in there else []
    written = ", ".join(dashes + ".".join([*outer, name]) for name in near)
    return f"\nNearest known: {written}." if near else ""
