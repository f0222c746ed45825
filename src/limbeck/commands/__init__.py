"""The verbs of the command line."""

import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, auto_cli
from lightning.pytorch.utilities.exceptions import SIGTERMException

from limbeck.commands import recipes
from limbeck.commands.fit import train
from limbeck.commands.inspect import inspect
from limbeck.commands.predict import predict
from limbeck.commands.quickstart import quickstart

log = logging.getLogger(__name__)

_VERBS: Mapping[str, Callable[..., Any] | dict[str, Any]] = {
    "inspect": inspect,
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
    elif verb in _VERBS:
        auto_cli(_VERBS[verb], args=rest, prog=f"limbeck {verb}", allow_abbrev=False)
    else:
        known = ", ".join(["fit", "validate", "predict", *_VERBS])
        raise ValueError(f"no verb {verb!r}. There are: {known}.")


def predict_parser() -> ArgumentParser:
    """The images are as many words as the user gives, which ``auto_cli`` cannot say."""
    parser = ArgumentParser(prog="limbeck predict", allow_abbrev=False)
    parser.add_function_arguments(predict, skip={"images"}, as_positional=True)
    parser.add_argument("images", nargs="+", type=Path, help="image files, or folders of them")
    return parser
