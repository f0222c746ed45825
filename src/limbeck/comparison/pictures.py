"""Pictures of what the methods of a comparison see in its training images, for the report."""

from collections.abc import Sequence
from pathlib import Path

from limbeck.comparison.job import Job
from limbeck.comparison.running import start, written
from limbeck.names import file_names
from limbeck.recipe import value_at

FOLDER = "pictures"


def draw(jobs: Sequence[Job], output: Path) -> None:
    """Draw what each method of some runs sees, where it has anything to draw and it is not there.

    Args:
        jobs: The runs, of which the first of each row counts.
        output: The folder of the comparison.
    """
    for job in {job.name: job for job in reversed(jobs)}.values():
        for method, path in _paths(job, output).items():
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
    return {
        f"What {method} of {job.name} sees in training images": path
        for job in jobs
        for method, path in _paths(job, output).items()
        if path.is_file()
    }


def _paths(job: Job, output: Path) -> dict[str, Path]:
    """The picture of each method of a run; one of a changed recipe is another run."""
    methods = value_at(job.recipe or {}, "model.methods") or {}
    names = file_names({method: f"{job.folder.name}_{method}.png" for method in methods})
    return {method: output / FOLDER / name for method, name in names.items()}
