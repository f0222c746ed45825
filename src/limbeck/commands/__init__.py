"""The verbs of the command line."""

import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, auto_cli
from lightning.pytorch.utilities.exceptions import SIGTERMException

from limbeck.commands import recipes
from limbeck.commands.anchors import anchors
from limbeck.commands.convert import CHOICES, convert
from limbeck.commands.fit import train
from limbeck.commands.inspect import inspect
from limbeck.commands.predict import predict
from limbeck.commands.quickstart import quickstart

log = logging.getLogger(__name__)

_VERBS: Mapping[str, Callable[..., Any] | dict[str, Any]] = {
    "recipes": {"list": recipes.show_all, "show": recipes.show, "copy": recipes.copy},
    "quickstart": quickstart,
}


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck`` with these arguments.

    Raises:
        ValueError: there is no such verb.
    """
    verb, *rest = arguments
    if verb in ("fit", "validate"):
        try:
            train(arguments)
        except SIGTERMException:
            log.warning("Ended by SIGTERM, after a checkpoint: `limbeck fit --resume` goes on.")
            raise SystemExit(128 + signal.SIGTERM) from None
    elif verb == "predict":
        predict(**predict_parser().parse_args(rest).as_dict())
    elif verb == "inspect":
        inspect(**inspect_parser().parse_args(rest).as_dict())
    elif verb == "convert":
        convert(**convert_parser().parse_args(rest).as_dict())
    elif verb == "anchors":
        anchors(**anchors_parser().parse_args(rest).as_dict())
    elif verb in _VERBS:
        auto_cli(_VERBS[verb], args=rest, prog=f"limbeck {verb}", allow_abbrev=False)
    else:
        known = ", ".join(["fit", "validate", "predict", "convert", "inspect", "anchors", *_VERBS])
        raise ValueError(f"no verb {verb!r}. There are: {known}.")


def predict_parser() -> ArgumentParser:
    """The images are as many words as the user gives, which ``auto_cli`` cannot say."""
    parser = ArgumentParser(prog="limbeck predict", allow_abbrev=False)
    parser.add_function_arguments(predict, skip={"images"}, as_positional=True)
    parser.add_argument("images", nargs="+", type=Path, help="image files, or folders of them")
    return parser


def inspect_parser() -> ArgumentParser:
    """The targets are as many words as the user gives, as with ``predict``."""
    parser = ArgumentParser(prog="limbeck inspect", allow_abbrev=False)
    parser.add_argument("target", nargs="+", type=str, help="recipes, students, files, models")
    parser.add_function_arguments(inspect, skip={"target"}, as_positional=True)
    return parser


def anchors_parser() -> ArgumentParser:
    """The recipes are as many words as the user gives, as with ``inspect``."""
    parser = ArgumentParser(prog="limbeck anchors", allow_abbrev=False)
    parser.add_argument("recipe", nargs="+", type=str, help="recipes, laid over each other")
    parser.add_function_arguments(anchors, skip={"recipe"}, as_positional=True)
    return parser


def convert_parser() -> ArgumentParser:
    """``--from`` is a word that Python keeps for itself, which ``auto_cli`` cannot say."""
    parser = ArgumentParser(prog="limbeck convert", allow_abbrev=False)
    ends = {"source_format": "--from", "target_format": "--to"}
    parser.add_function_arguments(convert, skip=set(ends), as_positional=True)
    for name, flag in ends.items():
        parser.add_argument(flag, dest=name, choices=CHOICES, help=f"the {name}")
    return parser
