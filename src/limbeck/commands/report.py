"""``limbeck report``: one page that can be mailed, of a comparison or of runs that are there."""

from collections.abc import Sequence
from pathlib import Path

from limbeck.commands.ending import ended_in_words
from limbeck.commands.outputs import refuse_unwritable_target
from limbeck.commands.parsing import VerbParser
from limbeck.commands.verdicts import show
from limbeck.comparison.reporting import folder_for, report


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck report``. Its folders are any number of words.

    Args:
        arguments: The verb, and the words that follow it.
    """
    parser = VerbParser(prog="limbeck report", allow_abbrev=False)
    parser.add_argument(
        "runs", nargs="+", type=Path, help="The folder of a comparison, or those of finished runs."
    )
    parser.add_argument(
        "--output",
        type=Path | None,
        help="The folder for report.html, report.md and report.json. Default: that of the "
        "comparison, otherwise `report` beside the first run.",
    )
    given = parser.parse_args(arguments[1:])
    if given.output is not None:
        refuse_unwritable_target(given.output, "--output", folder=True)
    folder = given.output or folder_for(given.runs)
    with ended_in_words(arguments[0]):
        show(report(given.runs, folder), folder)
