"""Errors as the user of the command line reads them."""

import difflib
import inspect
import pkgutil
import re
from argparse import ArgumentParser
from collections.abc import Iterable
from types import TracebackType


def explain(message: str, parser: ArgumentParser) -> str:
    """A parser's message about an unknown key, with the nearest known ones added.

    Args:
        message: what jsonargparse says.
        parser: of the verb, for the keys that it knows.
    """
    inner = re.search(r"class_path '([\w.]+)'.*?Option '([\w.]+)' is not accepted", message, re.S)
    if inner:
        maker = pkgutil.resolve_name(inner[1])
        return message + _nearest(inner[2], inspect.signature(maker).parameters)
    outer = re.search(r"does not accept option '([\w.]+)'|arguments: --([\w.]+)", message)
    if outer:
        return message + _nearest(outer[1] or outer[2], known_keys(parser))
    return message


def known_keys(parser: ArgumentParser) -> set[str]:
    """Every key that a parser takes, those of its subcommands included."""
    keys: set[str] = set()
    for action in parser._actions:
        keys |= {option.removeprefix("--") for option in action.option_strings}
        if isinstance(action.choices, dict):
            for subparser in action.choices.values():
                keys |= known_keys(subparser)
    return keys


def _nearest(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), n=3, cutoff=0.5)
    return f"\nNearest known: {', '.join(near)}." if near else ""


def is_ours(trace: TracebackType | None) -> bool:
    """Whether limbeck itself raised: its messages say what to do, and need no traceback."""
    name = ""
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__"))
        trace = trace.tb_next
    return name.partition(".")[0] == "limbeck"
