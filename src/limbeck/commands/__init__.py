"""The verbs of the command line."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jsonargparse import auto_cli

from limbeck.commands import recipes
from limbeck.commands.fit import train
from limbeck.commands.inspect import inspect
from limbeck.commands.predict import predict
from limbeck.commands.quickstart import quickstart

_VERBS: Mapping[str, Callable[..., Any] | dict[str, Any]] = {
    "predict": predict,
    "inspect": inspect,
    "recipes": {"list": recipes.show_all, "show": recipes.show, "copy": recipes.copy},
    "quickstart": quickstart,
}


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck`` with these arguments."""
    if arguments[0] in ("fit", "validate"):
        train(arguments)
    else:
        auto_cli(dict(_VERBS), args=list(arguments))
