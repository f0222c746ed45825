"""``limbeck fit --resume RUN``: a killed run goes on, with the recipe that it was begun with."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as L
import yaml
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_only

from limbeck.commands.parsing import WordParser
from limbeck.models.card import CARD
from limbeck.names import in_shell
from limbeck.recipe import differences
from limbeck.texts import MOST_YAML, read_bytes
from limbeck.training.logs import stated_loggers
from limbeck.training.writing import UNWRITTEN, outlived
from limbeck.whole import write_whole

RECIPE = "config.yaml"
LAST = Path("checkpoints", "last.ckpt")
BEST = Path("checkpoints", "best.ckpt")

# Keys of a recipe that may change: what a run trains does not depend on them.
FREE = {
    "checkpoint_every",
    "config",
    "data.eval_batch_size",
    "data.workers",
    "detections",
    "model.recalibrate",
    "predictions",
    "trainer.accelerator",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
    "trainer.logger",
    "trainer.max_time",
}
# Whether a method takes a teacher of other classes: it decides what is refused, not what is learnt.
_FREE_OF_METHODS = re.compile(r"model\.methods\..+\.init_args\.other_classes")
_CHECKSUM = "# The sha256 of the lines below: "


class Resumed(NamedTuple):
    """The run that goes on.

    Attributes:
        root: Its folder.
        checkpoint: The file that it goes on from, in that folder.
    """

    root: Path
    checkpoint: Path


class RunRecipe(SaveConfigCallback):
    """Writes ``config.yaml``, the recipe of a run, and gives it to loggers that the recipe names.

    It is removed again where a run ends before its first step. Only new runs write it: whoever
    resumes or measures a run leaves its recipe as it is.
    """

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write it into the run's folder, without the checkpoint that the run began from."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        recipe = self.config.clone()
        recipe.ckpt_path = None
        text = self.parser.dump(recipe, skip_none=False)
        write_recipe(Path(trainer.default_root_dir, RECIPE), text)
        for logger in stated_loggers(trainer):
            logger.log_hyperparams(yaml.safe_load(text))

    @rank_zero_only
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Try once more where it could not be written, as a run cannot be resumed without it."""
        if Path(trainer.default_root_dir, RECIPE) in UNWRITTEN:
            self.save_config(trainer, pl_module, "fit")

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Leave the folder free for another attempt where nothing was trained."""
        root = Path(trainer.default_root_dir)
        if (
            trainer.is_global_zero
            and not trainer.global_step
            and not (root / "checkpoints").exists()
        ):
            (root / RECIPE).unlink(missing_ok=True)


def run_to_resume(arguments: Sequence[str]) -> tuple[list[str], Resumed | None]:
    """Find out which run is resumed.

    Args:
        arguments: The verb, and the words that follow it.

    Returns:
        The arguments with the resumed run's own recipe before all others instead of ``--resume``,
        and the run; the same arguments and None where no run is resumed.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: The verb is another than ``fit``, or the recipe of the run is damaged.
    """
    parser = WordParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--from_best", action="store_true")
    given, (verb, *rest) = parser.parse_known_args(arguments)
    if given.resume is None and given.from_best:
        raise ValueError("--from_best is given without --resume RUN. Give both.")
    if given.resume is None:
        return list(arguments), None
    if verb != "fit":
        raise ValueError(f"--resume continues training; `limbeck {verb}` does not take it.")
    recipe = given.resume / RECIPE
    if not recipe.is_file():
        raise FileNotFoundError(
            f"{given.resume} holds no run to resume: there is no {RECIPE} in it. Give the folder "
            "of a run that `limbeck fit` has begun."
        )
    refuse_damaged(recipe)
    checkpoint = BEST if given.from_best else LAST
    return [verb, "--config", str(recipe), *rest], Resumed(given.resume, checkpoint)


def refuse_elsewhere(root: Path, own: str, given: str) -> None:
    """Refuse another folder for a run that goes on in its own.

    Args:
        root: The folder of the run.
        own: What its recipe states as its folder.
        given: What the command line states.

    Raises:
        ValueError: The two differ.
    """
    if given != own:
        raise ValueError(
            f"--trainer.default_root_dir is {given}, and --resume goes on in the run's own folder, "
            f"{root}. Leave the option out, or copy that folder and resume the copy."
        )


def refuse_finished(root: Path) -> None:
    """Refuse to train a finished run again, of which no checkpoint is left.

    Args:
        root: The folder of the run.

    Raises:
        FileExistsError: It has a student, which would be replaced.
    """
    if (root / "student" / CARD).is_file():
        raise FileExistsError(
            f"{root} is finished, and has no {LAST} to go on from: all of it would be trained "
            "again, over its student. Train it in a new folder."
        )


def write_recipe(path: Path, text: str) -> None:
    """Write the recipe of a run, with its checksum; the run outlives a disk that is full.

    Args:
        path: The file.
        text: The recipe.
    """
    with outlived(path):
        write_whole(path, f"{_CHECKSUM}{_sha256(text.encode())}\n{text}")


def refuse_damaged(recipe: Path) -> None:
    """Refuse the recipe of a run that is not as it was written.

    Args:
        recipe: The file. One that an earlier version wrote has no checksum, and is taken as it is.

    Raises:
        ValueError: It is no text, is empty or very large, or differs from its checksum.
    """
    head, _, text = read_bytes(recipe, MOST_YAML).partition(b"\n")
    stated = head.removeprefix(_CHECKSUM.encode())
    differs = stated != head and stated.decode("ascii", "replace") != _sha256(text)
    try:
        empty = not (head + text).decode("utf-8").strip()
    except UnicodeDecodeError:
        differs = empty = True
    if differs or empty:
        root = recipe.parent
        raise ValueError(
            f"{recipe} is not as limbeck wrote it: it was damaged or edited. Restore it, or give "
            "the recipe of the run again: `limbeck fit --config RECIPE --ckpt_path "
            f"{in_shell(root / LAST)} --trainer.default_root_dir {in_shell(root)}`."
        )


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def refuse_changed(root: Path, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume a run with another recipe than the one that it was begun with.

    Args:
        root: The folder of the run.
        begun: The recipe that the run was begun with, as nested dicts.
        now: The recipe that it is to go on with, as nested dicts.

    Raises:
        ValueError: The recipes differ in a key that training depends on.
    """
    found = [
        line
        for key, line in differences(begun, now)
        if not (_is_free(key) or _FREE_OF_METHODS.fullmatch(key))
    ]
    if found:
        lines = "\n  ".join(found)
        raise ValueError(
            f"{root} was begun with another recipe:\n  {lines}\nResume it as it was, with `limbeck "
            f"fit --resume {in_shell(root)}` alone, or train the changed recipe in a folder of its "
            "own."
        )


def _is_free(key: str) -> bool:
    """Whether this key, or one that it stands below, may change."""
    return any(f"{key}.".startswith(f"{free}.") for free in FREE)
