"""The command line: ``limbeck VERB ...``, with one verb a module in :mod:`limbeck.commands`."""

import logging
import os
import signal
import sys
from collections.abc import Sequence

from limbeck import __version__
from limbeck.commands import VERBS, run
from limbeck.commands.errors import of_ours, told
from limbeck.names import in_terminal

HELP = """\
usage: limbeck VERB ...

{verbs}

limbeck VERB --help tells more, and limbeck --version tells the version. A recipe's every field can
be overridden:
  limbeck fit --config recipes/shapes/student.yaml --trainer.max_steps 100
A killed run goes on where it was, with the recipe it was begun with:
  limbeck fit --resume runs/shapes/student
""".format(verbs="\n".join(f"  {verb.name:<11} {verb.help}" for verb in VERBS))

# Where a process finds its number among several, in the order in which Lightning looks.
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the ``limbeck`` command; it exits with 1 after an error that is the user's to mend.

    Args:
        arguments: The words after ``limbeck``. Default (None): those that the process was given.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(HELP)
        return
    if words[0] == "--version":
        sys.stdout.write(f"limbeck {__version__}\n")
        return
    speak()
    try:
        run(words)
    except KeyboardInterrupt:
        logging.getLogger("limbeck").warning("Ended by SIGINT.")
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        ours = of_ours(error)
        if ours is None:
            raise
        logging.getLogger("limbeck").error("%s", told(ours, words[0]))
        sys.exit(1)


class Plain(logging.Formatter):
    """Messages in which no name or file can move the cursor or hide what stands before it."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, without control characters."""
        return in_terminal(super().format(record))


def speak() -> None:
    """Show what limbeck has to say; of several processes the first speaks for all."""
    handler = logging.StreamHandler()
    handler.setFormatter(Plain("%(levelname)s %(message)s"))
    rank = next((os.environ[name] for name in RANKS if name in os.environ), "0")
    ours = logging.getLogger("limbeck")
    ours.setLevel(logging.INFO if rank == "0" else logging.ERROR)
    ours.handlers = [handler]
    ours.propagate = False


if __name__ == "__main__":
    main()
