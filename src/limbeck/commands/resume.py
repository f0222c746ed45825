"""``limbeck fit --resume RUN``: a killed run goes on, with the recipe that it was begun with."""

from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

RECIPE = "config.yaml"
LAST = Path("checkpoints", "last.ckpt")

# What a run trains does not depend on these.
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
    """The arguments with the resumed run's own recipe before all others, and its folder.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: the verb is another than ``fit``.
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
    """Raise where a recipe is not the one that the run in ``root`` was begun with.

    Args:
        root: folder of the run.
        begun: its recipe, as nested dicts.
        now: the recipe that it is to go on with.
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
    """Dotted keys whose values differ, each with a line that says how."""
    for key in sorted(begun.keys() | now.keys()):
        old, new = begun.get(key, _MISSING), now.get(key, _MISSING)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}", f"{prefix}{key} was {_short(old)}, is {_short(new)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 80 else f"{text[:77]}..."
