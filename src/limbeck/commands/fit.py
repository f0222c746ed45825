"""``limbeck fit`` and ``limbeck validate``: a recipe, through Lightning's command line."""

from collections.abc import Sequence
from contextlib import ExitStack

from torch import distributed

from limbeck.commands.command_line import Fit, LimbeckCLI, Validate, command_line
from limbeck.commands.ending import ended_in_words
from limbeck.commands.resume import RunRecipe, run_to_resume
from limbeck.training.writing import UNWRITTEN


def train(arguments: Sequence[str]) -> LimbeckCLI:
    """Run ``limbeck fit ...`` or ``limbeck validate ...``.

    Args:
        arguments: The words after ``limbeck``.

    Returns:
        The command line, with its model, data and trainer.
    """
    words, resumed = run_to_resume(arguments)
    trains = words[0] == "fit"
    kind = Fit if trains else Validate
    written = RunRecipe if trains and resumed is None else None
    UNWRITTEN.clear()
    LimbeckCLI.root = None
    with ExitStack() as held:
        cli = command_line(words, resumed, kind, held=held, save_config_callback=written)
    if distributed.is_initialized():
        distributed.destroy_process_group()  # or its threads may abort the process as it exits
    return cli


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck fit`` or ``limbeck validate``; a signal ends it with the usual exit code.

    Args:
        arguments: The verb, and what follows it.
    """
    with ended_in_words(arguments[0], lambda: LimbeckCLI.root):
        train(arguments)
    if any(path.name == "student" for path in UNWRITTEN):
        raise SystemExit(1)
