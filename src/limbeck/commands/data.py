"""``limbeck data``: what is in a dataset, and the same dataset in another layout."""

from collections.abc import Callable, Sequence

from limbeck.commands.data_convert import convert
from limbeck.commands.data_inspect import inspect
from limbeck.commands.parsing import VerbParser

_DATA = "A folder of data, or recipes (.yaml), each laid over the ones before."
_DECODE = "Decode every image, which finds those that are cut off, and equal pixels in other files."
_JSON = "Print everything as JSON, for programs."


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck data``. The data are any number of words.

    Args:
        arguments: The verb, and the words that follow it.
    """
    verbs: dict[str, Callable[..., None]] = {"inspect": inspect, "convert": convert}
    flags = {"inspect": {"decode": _DECODE, "json": _JSON}}
    parser = VerbParser(prog="limbeck data", allow_abbrev=False)
    words = parser.add_subcommands()
    for name, verb in verbs.items():
        own = VerbParser(prog=f"limbeck data {name}", allow_abbrev=False)
        own.add_argument("data", nargs="+", type=str, help=_DATA)
        for flag, help_ in flags.get(name, {}).items():
            own.add_argument(f"--{flag}", action="store_true", help=help_)
        own.add_function_arguments(verb, skip={"data", *flags.get(name, ())})
        words.add_subcommand(name, own, help=str(verb.__doc__).partition("\n")[0])
    parsed = parser.parse_args(list(arguments[1:]))
    verbs[parsed.subcommand](**parsed[parsed.subcommand].as_dict())
