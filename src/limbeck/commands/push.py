"""``limbeck push``: a student, with its card, on the hub of Hugging Face."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from torch import nn

from limbeck.commands.model_card import measured_in, without_places, write_card
from limbeck.commands.parsing import VerbParser
from limbeck.data.base import Task
from limbeck.frame import takes_list
from limbeck.models import load_student
from limbeck.models.build import LimbeckModel
from limbeck.models.card import CARD, WEIGHTS
from limbeck.models.hub import first_line, is_named
from limbeck.models.loading import read_student
from limbeck.terminal import say
from limbeck.texts import read_text

log = logging.getLogger(__name__)

README = "README.md"
_FLAGS = {
    "public": "Let everybody see a repository that is new; without it, you alone do.",
    "dry_run": "Print the files and the card, and push nothing.",
}
# What all errors of the client's library of HTTP are: httpx2's, httpx's or requests'.
_CLIENT_ERROR: Any = HfHubHTTPError.__mro__[1]


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck push``.

    Args:
        arguments: The verb, and the words that follow it.
    """
    parser = VerbParser(prog="limbeck push", allow_abbrev=False)
    parser.add_function_arguments(push, as_positional=True, skip=set(_FLAGS))
    parser.add_flags(_FLAGS)
    push(**parser.parse_args(arguments[1:]).as_dict())


def push(
    student: Path,
    name: str,
    report: Path | None = None,
    licence: str | None = None,
    trust: bool = False,
    public: bool = False,
    dry_run: bool = False,
) -> None:
    """Put a student on the hub of Hugging Face, with a card that says how good it is.

    The files of the student are pushed, and no others of its folder; of paths on this machine the
    last part is left in them. `hf auth login` logs in.

    Args:
        student: The student's folder, as `limbeck fit` exports it.
        name: Its name on the hub: owner/name.
        report: The report.json of a comparison that the student is a run of. Its scores with their
            intervals, the controls and the digests of the data stand in the card. Default (None):
            the card has no scores.
        licence: The licence of the student, by the hub's name of it: apache-2.0, mit, other, ...
            Default (None): the card states none.
        trust: Whether to build a student that is not a model of limbeck, torchvision or timm.
        public: Whether everybody may see a repository that is new. By default you alone do.
        dry_run: Whether to print the files and the card, and push nothing.

    Raises:
        FileNotFoundError: There is no student, or no report.
        ConnectionError: The hub is not reached.
        PermissionError: The hub does not let you push there.
        ValueError: The student is damaged, is no run of the report, or the name is none.
    """
    if not is_named(name):
        raise ValueError(f"{name!r} is no name on the hub; expected owner/name. Correct it.")
    model = load_student(student, trust=trust)
    files = files_of(student, model)
    said = json.loads(read_text(student / CARD))
    task: Task = "detection" if takes_list(model) else "classification"
    measured = None if report is None else measured_in(report, student)
    card = write_card(name, said, task, licence, measured)
    files = {README: card.encode(), **files}
    if licence is None:
        log.warning("No licence is stated, so nobody may use the student. Give --licence.")
    say(f"To {name} go: " + ", ".join(f"{each} ({_size(held)})" for each, held in files.items()))
    if dry_run:
        say(card, soft_wrap=True)
        return
    _upload(name, files, public=public)


def files_of(folder: Path, model: nn.Module) -> dict[str, bytes | Path]:
    """The files of a student that are pushed.

    Args:
        folder: The student's folder.
        model: The student in it, which knows by which files other libraries load it.

    Returns:
        Their contents or paths by their names: ``student.json`` and what other libraries read,
        without places on this machine, and the weights.
    """
    names: set[str] = {CARD, WEIGHTS}
    if isinstance(model, LimbeckModel) and model.is_limbecks:
        tensors = read_student(folder)[1]
        names |= set(model.companions(WEIGHTS, tensors, getattr(model, "classes", ())))
    here = [folder / name for name in sorted(names) if (folder / name).is_file()]
    others = sorted(path.name for path in folder.iterdir() if path not in here)
    if others:
        log.info("Not pushed, as they are no files of a student: %s", ", ".join(others))
    return {path.name: _published(path) for path in here}


def _published(path: Path) -> bytes | Path:
    """A file as it is pushed: JSON without places on this machine, any other as it is."""
    if path.suffix != ".json":
        return path
    before = json.loads(read_text(path))
    after = without_places(before)
    if after != before:
        log.warning("%s: of the paths on this machine in it, the last part alone is pushed", path)
    return (json.dumps(after, indent=2) + "\n").encode()


def _size(held: bytes | Path) -> str:
    size = len(held) if isinstance(held, bytes) else held.stat().st_size
    return f"{size:,} bytes"


def _upload(name: str, files: Mapping[str, bytes | Path], *, public: bool) -> None:
    """Put all files there in one commit."""
    api = HfApi(library_name="limbeck")
    operations: list[Any] = [
        CommitOperationAdd(each, held if isinstance(held, bytes) else str(held))
        for each, held in files.items()
    ]
    try:
        api.create_repo(name, private=not public, exist_ok=True)
        done = api.create_commit(name, operations, commit_message="A student of limbeck")
    except (HfHubHTTPError, LocalTokenNotFoundError, HFValidationError) as error:
        raise PermissionError(
            f"{name}: the hub refuses ({first_line(error)}). Log in with `hf auth login`, with a "
            "token that may write, and see whether the name is yours."
        ) from error
    except (OSError, _CLIENT_ERROR, RuntimeError) as error:
        raise ConnectionError(
            f"{name}: the hub is not reached, or the connection broke off ({first_line(error)}). "
            "The student is there whole or not at all. See whether the hub can be reached, and "
            "push again."
        ) from error
    say(f"{done.commit_url}")
    say(f"weights: hf:{name}, `limbeck predict hf:{name} IMAGES`, or load_student('hf:{name}').")
