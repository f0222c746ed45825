"""How a run ends that does not end by itself, or not with everything that it should leave."""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import distributed

from limbeck.commands.errors import GOES_ON
from limbeck.commands.resume import LAST, RECIPE
from limbeck.names import in_shell
from limbeck.training.writing import UNWRITTEN

log = logging.getLogger(__name__)

LOST = (
    "another process of this run has ended, or cannot be reached: this one ends, too. `limbeck fit "
    "--resume` goes on from the last checkpoint, with as many processes as before."
)
_OF_OTHERS = ("gloo", "nccl", "Connection closed by peer", "Connection reset by peer")


class LostProcessError(RuntimeError):
    """Another process of the run is gone."""


@contextmanager
def ended_in_words(verb: str, root: Callable[[], Path | None] = lambda: None) -> Iterator[None]:
    """Turn signals, and errors about another process, into sentences and exit codes.

    Args:
        verb: The verb of the command line that is run.
        root: Gives the folder of the run that is trained, once it is known.

    Yields:
        Nothing.

    Raises:
        SystemExit: A signal ended it.
        LostProcessError: Another process of the run is gone.
    """
    _ChildProcessObserver._terminate_all = _end_all  # type: ignore[method-assign, assignment]
    try:
        yield
    except SIGTERMException as end:
        raise ended_by(getattr(end, "number", signal.SIGTERM), verb, root()) from None
    except KeyboardInterrupt:
        raise ended_by(signal.SIGINT, verb, root()) from None
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        raise ended_by(signal.SIGINT, verb, root()) from None  # Lightning's exit code is 1
    except RuntimeError as error:
        if not of_a_lost_process(error):
            raise
        raise LostProcessError(LOST) from error


def _end_all(observer: Any) -> None:
    """What Lightning's launcher does where a process that it started has failed: end all others.

    Its own way kills this process without a word, also where all of them end as they were asked to.
    """
    children = observer._child_processes
    if {child.returncode for child in children} & {128 + signal.SIGINT, 128 + signal.SIGTERM}:
        return  # this one ends by the same signal, after the same batch
    os.write(2, f"ERROR {LOST}\n".encode())
    for child in children:
        child.kill()
    os._exit(1)


def of_a_lost_process(error: BaseException) -> bool:
    """Whether an error says that another process of the run cannot be reached any more."""
    if "WORLD_SIZE" not in os.environ and not distributed.is_initialized():
        return False
    kinds = (distributed.DistNetworkError, distributed.DistBackendError, distributed.DistStoreError)
    return isinstance(error, kinds) or any(word in str(error) for word in _OF_OTHERS)


def ended_by(number: int, verb: str, root: Path | None) -> SystemExit:
    """Say that a signal ended the program.

    Args:
        number: The signal.
        verb: The verb of the command line that it ended.
        root: The folder of the run that was trained. None: there is none.

    Returns:
        What ends the process, with the exit code that shells give for the signal.
    """
    log.warning("Ended by %s%s.", signal.Signals(number).name, _goes_on(verb, root))
    return SystemExit(128 + number)


def _goes_on(verb: str, root: Path | None) -> str:
    if verb != "fit":
        return f": {GOES_ON[verb]}" if verb in GOES_ON else ""
    if root is not None and (root / RECIPE).is_file():  # it is removed where no step was taken
        return f": `limbeck fit --resume {in_shell(root)}` goes on from its last checkpoint"
    return " before the first step: give the same command again"


def tell_unwritten(root: Path) -> None:
    """Say what a run could not write, and how to get it.

    Args:
        root: The folder of the run.
    """
    if not UNWRITTEN:
        return
    lines = "\n  ".join(f"{path}: {why}" for path, why in UNWRITTEN.items())
    how = _how_to_get_it(root)
    log.error("Trained to the end, but not all could be written. Free space.\n  %s\n%s", lines, how)


def _how_to_get_it(root: Path) -> str:
    """What is left, and what brings the rest back."""
    last, student, resume = (
        root / LAST,
        root / "student",
        f"`limbeck fit --resume {in_shell(root)}`",
    )
    called = {student: "the student", root / "summary.json": "summary.json"}
    wanted = [name for path, name in called.items() if path in UNWRITTEN]
    whole = f"The student in {student} is whole, and as training ended."
    if not (root / RECIPE).is_file() or not last.is_file():
        nothing = "There is nothing to resume from"
        if student in UNWRITTEN:
            return f"{nothing}: train it again, or take what is named above."
        return f"{whole} {nothing}."
    if last in UNWRITTEN:
        again = f"{resume} goes on from the step that {last} is of."
        return f"Then {again}" if student in UNWRITTEN else f"{whole} {again}"
    if wanted:
        return f"Then {resume} writes {' and '.join(wanted)}, without training a step."
    return f"{whole} What is named above cannot be got back without training again."
