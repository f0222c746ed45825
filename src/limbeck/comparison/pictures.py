"""Pictures of what the methods of a comparison see in training images, for the report."""

import logging
from collections.abc import Sequence
from pathlib import Path

from limbeck.comparison.job import Job
from limbeck.comparison.running import waited_for, written
from limbeck.methods.pictures import NOTHING
from limbeck.names import file_names
from limbeck.recipe import value_at
from limbeck.report.page import MethodPicture
from limbeck.report.style import described

log = logging.getLogger(__name__)

FOLDER = "pictures"
_TRAINED = "checkpoints/last.ckpt"  # of a run, where its recipe has checkpoints


def draw(jobs: Sequence[Job], output: Path) -> None:
    """Draw what each method of some runs sees, where it has anything to draw and it is not there.

    Args:
        jobs: The runs, which are trained, of which the first of each row counts.
        output: The folder of the comparison.
    """
    for job in {job.name: job for job in reversed(jobs)}.values():
        for method, path in _paths(job, output).items():
            log_path, going = path.with_suffix(".log"), path.with_suffix(".log.part")
            checkpoint = job.folder / _TRAINED
            if log_path.exists() or not checkpoint.is_file():
                continue  # drawn already, or nothing to be drawn; or what it learnt is not there
            recipe = written(path.with_suffix(".yaml"), job.recipe or {})
            sketch = path.with_suffix(".part.png")  # of one that was killed nothing is left over
            sketch.unlink(missing_ok=True)
            words = ["inspect", str(recipe), "--method", method, "--picture", str(sketch)]
            words += ["--checkpoint", str(checkpoint), "--images", "3"]
            if waited_for(words, going) == 0:
                sketch.replace(path)
            elif NOTHING not in going.read_text("utf-8", "replace"):
                log.warning(
                    "what %s of %s sees could not be drawn, and is missing from the report: see "
                    "%s. The next call tries again.",
                    method,
                    job.name,
                    going,
                )
                continue
            going.replace(log_path)


def drawn(jobs: Sequence[Job], output: Path) -> list[MethodPicture]:
    """The pictures that :func:`draw` has drawn.

    Args:
        jobs: The runs.
        output: The folder of the comparison.

    Returns:
        The pictures.
    """
    return [
        MethodPicture(f"What {method} of {job.name} sees", described(path), path)
        for job in jobs
        for method, path in _paths(job, output).items()
        if path.is_file()
    ]


def _paths(job: Job, output: Path) -> dict[str, Path]:
    """The picture of each method of a run; one of a changed recipe is another run."""
    methods = value_at(job.recipe or {}, "model.methods") or {}
    names = file_names({method: f"{job.folder.name}_{method}.png" for method in methods})
    return {method: output / FOLDER / name for method, name in names.items()}
