"""The command line: one dispatcher, one verb a module in :mod:`limbeck.commands`."""

import logging
import sys
import warnings
from collections.abc import Sequence

HELP = """\
usage: limbeck VERB ...

  fit         train a student, taught or plain, as a recipe states it
  validate    measure a recipe's student (and teacher) on its validation data
  predict     run an exported student on images
  convert     write weights in another library's format, and compare the outputs
  inspect     landmarks and tappable paths of a model, a recipe or a weights file
  anchors     anchor shapes that suit a recipe's training data
  recipes     list, show and copy the recipes that come with limbeck
  quickstart  distil a detector on generated images, in minutes, and show what was gained

limbeck VERB --help tells more. A recipe's every field can be overridden:
  limbeck fit --config recipes/shapes/student.yaml --trainer.max_steps 100
A killed run goes on where it was, with the recipe it was begun with:
  limbeck fit --resume runs/shapes/student
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """The ``limbeck`` command."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        sys.stdout.write(HELP)
        return
    from limbeck.commands import run
    from limbeck.commands.errors import of_ours, told

    speak()  # after the imports, in which Lightning sets its own level
    try:
        run(given)
    except Exception as error:
        ours = of_ours(error)
        if ours is None:
            raise
        logging.getLogger("limbeck").error("%s", told(ours))
        sys.exit(1)


def speak() -> None:
    """Show what limbeck has to say, and of the libraries underneath the warnings that matter.

    Of several processes the first speaks for all.
    """
    from lightning.pytorch.utilities import rank_zero_only

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    ours = logging.getLogger("limbeck")
    ours.setLevel(logging.ERROR if getattr(rank_zero_only, "rank", 0) else logging.INFO)
    ours.handlers = [handler]
    ours.propagate = False
    for library in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    for message in _OF_THE_LIBRARIES:
        warnings.filterwarnings("ignore", message=message)


# What the libraries tell each other, not the user.
_OF_THE_LIBRARIES = (
    "LightningCLI's args parameter",
    ".*isinstance.treespec, LeafSpec.* is deprecated",
    ".*does not have many workers",
    "The number of training batches",
    ".*ModelCheckpoint.*dirpath.*exists and is not empty",
    "Checkpoint directory",
    "Experiment logs directory",
    "It is recommended to use .self.log",  # scores are those of all processes already
    r"Found \d+ module\(s\) in eval mode",
)


if __name__ == "__main__":
    main()
