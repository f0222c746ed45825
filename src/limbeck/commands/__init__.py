"""The verbs of the command line. The module of a verb is imported when the verb is run."""

import logging
import re
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple


class Verb(NamedTuple):
    """A word that may follow ``limbeck``.

    Attributes:
        name: The word.
        help: One line for ``limbeck --help``.
        module: The module with a function ``run(arguments)``, where the first argument is the verb.
    """

    name: str
    help: str
    module: str


VERBS = (
    Verb("fit", "train a student, taught or plain, as a recipe states it", "limbeck.commands.fit"),
    Verb(
        "validate",
        "measure a recipe's student (and teacher) on its validation data",
        "limbeck.commands.fit",
    ),
    Verb(
        "compare",
        "whether distillation gained anything, with its controls, and how sure that is",
        "limbeck.commands.compare",
    ),
    Verb(
        "report",
        "one page that can be mailed, of a comparison or of finished runs",
        "limbeck.commands.report",
    ),
    Verb(
        "tune",
        "choose the weight of a method on a part of the training images",
        "limbeck.commands.tune",
    ),
    Verb(
        "predict",
        "run a student, or an exported file, on images and videos",
        "limbeck.commands.predict",
    ),
    Verb(
        "benchmark",
        "how fast students, teachers and exported files are, in turns",
        "limbeck.commands.benchmark",
    ),
    Verb(
        "push",
        "put a student with its card on the hub of Hugging Face",
        "limbeck.commands.push",
    ),
    Verb(
        "quantize",
        "round a student to INT8, with ranges observed on images",
        "limbeck.commands.quantize",
    ),
    Verb(
        "export",
        "write a student for another runtime (ONNX ...), and compare its detections there",
        "limbeck.commands.export",
    ),
    Verb(
        "label",
        "label images with what a detector finds on them, as data to train on",
        "limbeck.commands.label",
    ),
    Verb(
        "convert",
        "write weights in another library's format, and compare the outputs",
        "limbeck.commands.convert",
    ),
    Verb(
        "inspect",
        "landmarks and tappable paths of a model, a recipe or a weights file",
        "limbeck.commands.inspect",
    ),
    Verb(
        "data",
        "what is in a dataset (inspect), and the same one in another layout (convert)",
        "limbeck.commands.data",
    ),
    Verb("new", "write recipes that run as they are, for a folder of data", "limbeck.commands.new"),
    Verb("anchors", "anchors that suit a recipe's training data", "limbeck.commands.anchors"),
    Verb(
        "recipes",
        "list, show and copy the recipes that come with limbeck; their schema, for editors",
        "limbeck.commands.recipes",
    ),
    Verb(
        "completion",
        "print the script by which bash or zsh completes these words",
        "limbeck.commands.completion",
    ),
    Verb(
        "quickstart",
        "distil a detector on generated images, in minutes, and show what was gained",
        "limbeck.commands.quickstart",
    ),
)


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck`` with these arguments.

    Args:
        arguments: A verb, and what follows it.

    Raises:
        ValueError: There is no such verb.
    """
    modules = {verb.name: verb.module for verb in VERBS}
    if arguments[0] not in modules:
        raise ValueError(f"no verb {arguments[0]!r}. There are: {', '.join(modules)}.")
    module = import_module(modules[arguments[0]])
    quieten_libraries()  # after the import, in which Lightning sets its own level
    module.run([with_underscores(word) for word in arguments])


def with_underscores(word: str) -> str:
    """An option in the spelling of Python's names: ``--batch-size=4`` is ``--batch_size=4``."""
    name, equals, value = word.partition("=")
    is_option = re.fullmatch(r"--[a-z]\w*(-\w+)+", name) is not None
    return f"{name[:2]}{name[2:].replace('-', '_')}{equals}{value}" if is_option else word


def quieten_libraries() -> None:
    """Show of the libraries underneath the warnings that matter to the user, and nothing else."""
    for library in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    for message in _FOR_DEVELOPERS:
        warnings.filterwarnings("ignore", message=message)


# What the libraries tell each other, and not the user.
_FOR_DEVELOPERS = (
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
