"""``limbeck fit --resume RUN``: a killed run goes on, with the recipe that it was begun with."""

from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

RECIPE = "config.yaml"
LAST = Path("checkpoints", "last.ckpt")

# Keys of a recipe that may change: what a run trains does not depend on them.
FREE = {
    "checkpoint_every",
    "config",
    "data.eval_batch_size",
    "data.workers",
    "detections",
    "model.recalibrate",
    "trainer.accelerator",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
    "trainer.max_time",
}
_MISSING = "nothing"


def run_to_resume(arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    """Find out which run is resumed.

    Args:
        arguments: The verb, and the words that follow it.

    Returns:
        The arguments with the resumed run's own recipe before all others instead of ``--resume``,
        and the run's folder; the same arguments and None where no run is resumed.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: The verb is another than ``fit``.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--resume", type=Path)
    given, (verb, *rest) = parser.parse_known_args(arguments)
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
    return [verb, "--config", str(recipe), *rest], given.resume


def refuse_changed(root: Path, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume a run with another recipe than the one that it was begun with.

    Args:
        root: The folder of the run.
        begun: The recipe that the run was begun with, as nested dicts.
        now: The recipe that it is to go on with, as nested dicts.

    Raises:
        ValueError: The recipes differ in a key that training depends on.
    """
    found = [line for key, line in differences(begun, now) if key not in FREE]
    if found:
        lines = "\n  ".join(found)
        raise ValueError(
            f"{root} was begun with another recipe:\n  {lines}\nResume it as it was, with `limbeck "
            f"fit --resume {root}` alone, or train the changed recipe in a folder of its own."
        )


def differences(
    begun: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Compare two recipes.

    Args:
        begun: One recipe, as nested dicts.
        now: The other recipe.
        prefix: What stands before every key.

    Yields:
        Each dotted key whose values differ, and a line that says how.
    """
    for key in sorted(begun.keys() | now.keys()):
        old, new = begun.get(key, _MISSING), now.get(key, _MISSING)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}", f"{prefix}{key} was {_short(old)}, is {_short(new)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 80 else f"{text[:77]}..."
