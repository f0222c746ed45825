"""Pictures of what the methods of a comparison see in its training images, for the report."""

from collections.abc import Sequence
from pathlib import Path

from limbeck.comparison.job import Job, slug
from limbeck.comparison.running import start, written
from limbeck.recipe import value_at

FOLDER = "pictures"


def draw(jobs: Sequence[Job], output: Path) -> None:
    """Draw what each method of some runs sees, where it has anything to draw and it is not there.

    Args:
        jobs: The runs, of which the first of each row counts.
        output: The folder of the comparison.
    """
    for job in {job.name: job for job in reversed(jobs)}.values():
        for method in value_at(job.recipe or {}, "model.methods") or {}:
            path = output / FOLDER / f"{slug(job.name)}_{slug(method)}.png"
            log_path, going = path.with_suffix(".log"), path.with_suffix(".log.part")
            if log_path.exists():  # a method that has nothing to draw leaves this alone
                continue
            recipe = written(path.with_suffix(".yaml"), job.recipe or {})
            words = ["inspect", str(recipe), "--method", method, "--picture", str(path)]
            start([*words, "--images", "3"], going, {}).wait()
            going.replace(log_path)


def drawn(jobs: Sequence[Job], output: Path) -> dict[str, Path]:
    """The pictures that :func:`draw` has drawn.

    Args:
        jobs: The runs.
        output: The folder of the comparison.

    Returns:
        The files by what they show.
    """
    found = {}
    for job in jobs:
        for method in value_at(job.recipe or {}, "model.methods") or {}:
            path = output / FOLDER / f"{slug(job.name)}_{slug(method)}.png"
            if path.is_file():
                found[f"What {method} of {job.name} sees in training images"] = path
    return found
