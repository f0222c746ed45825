"""Errors as the users of the command line read them."""

import difflib
import errno
import logging
import pkgutil
import re
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any, NoReturn

import jsonargparse

from limbeck.commands.in_words import arguments_of, in_words

log = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT)
# A path of the user's that is something else than it is taken for, or is closed to them.
PLACES = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)


class Explaining:
    """The part of a parser that ends the program in limbeck's own words."""

    exit_on_error: bool

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End the program with the message, unless an outer parser is to do so."""
        if not self.exit_on_error:
            outer: Any = super()
            outer.error(message, ex)
        parser: Any = self
        log.error("%s", explain(message, parser))
        raise SystemExit(2) from ex


class VerbParser(Explaining, jsonargparse.ArgumentParser):
    """The parser of a verb's own arguments."""


def explain(message: str, parser: ArgumentParser) -> str:
    """Say a parser's message in limbeck's words, with the nearest known keys to an unknown one.

    Args:
        message: The message of jsonargparse.
        parser: The parser of the verb, which knows the keys.

    Returns:
        What the user is told, with a second line where there are near keys.
    """
    known = known_keys(parser)
    said = in_words(message, known)
    inner = re.search(r"class_path '([\w.]+)':\s+Option '([\w.]+)' is not accepted", message)
    if inner:
        return said + _nearest(inner[2], arguments_of(inner[1]))
    outer = re.search(r"does not accept option '([\w.]+)'|arguments: --([\w.]+)", message)
    if outer:
        return said + _nearest(outer[1] or outer[2], known)
    name = re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message)
    if name:
        return said + _nearest(name[2], dir(pkgutil.resolve_name(name[1])))
    return said


def known_keys(parser: ArgumentParser) -> set[str]:
    """All keys that a parser takes, including those of its subcommands."""
    keys: set[str] = set()
    for action in parser._actions:
        options = {o for o in action.option_strings if re.fullmatch(r"--[\w.]+", o)}
        keys |= {o.removeprefix("--") for o in options if not o.endswith((".help", "--help"))}
        if isinstance(action.choices, dict):
            for subparser in action.choices.values():
                keys |= known_keys(subparser)
    return keys


def _nearest(key: str, known: Iterable[str]) -> str:
    """A line with the keys that may be meant by the first part of a dotted key that is unknown."""
    split = [name.split(".") for name in known]
    parts = key.split(".")
    for depth, part in enumerate(parts):
        there = {n[depth] for n in split if n[:depth] == parts[:depth] and len(n) > depth}
        if part not in there:
            near = difflib.get_close_matches(part, there, n=3, cutoff=0.5)
            written = ", ".join(".".join([*parts[:depth], name]) for name in near)
            return f"\nNearest known: {written}." if near else ""
    return ""


def of_ours(error: BaseException | None) -> BaseException | None:
    """The error of limbeck's own that led to this one, or None; the user is told that one alone."""
    while error is not None and not is_ours(error):
        error = error.__cause__  # jsonargparse wraps what a constructor raises
    return error


def is_ours(error: BaseException) -> bool:
    """Whether limbeck raised an error for the user: it says what to do, and needs no traceback."""
    if type(error).__module__.partition(".")[0] == "limbeck":
        return True  # torch raises an error of a loading worker anew
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    if isinstance(error, LookupError | AttributeError | AssertionError | ArithmeticError):
        return False  # a mistake of ours
    if isinstance(error, OSError) and error.errno in PLACES and error.filename is not None:
        return True
    return raised_in(error) == "limbeck"


def raised_in(error: BaseException) -> str:
    """The package whose code raised an error."""
    trace, name = error.__traceback__, ""
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__"))
        trace = trace.tb_next
    return name.partition(".")[0]


def told(error: BaseException) -> str:
    """What the user is told: the message, and what to do about a disk or a path of theirs."""
    if isinstance(error, OSError) and error.errno in FULL:
        return (
            f"{error}. Free space; what was saved is whole, and `limbeck fit --resume` goes on "
            "from there."
        )
    if isinstance(error, OSError) and error.errno in PLACES and raised_in(error) != "limbeck":
        return (
            f"{error.filename}: {error.strerror}. Expected a path that can be read or written "
            "there. Give another one, or free this one."
        )
    # The traceback of a loading worker stands before the message.
    return str(error).rpartition(f"{type(error).__qualname__}: ")[2]
