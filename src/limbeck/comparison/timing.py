"""How long a step of a run takes: as its finished runs tell, otherwise by a short trial."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from limbeck.comparison.job import Job
from limbeck.comparison.running import waited_for, written
from limbeck.recipe import laid_over

TRIAL = 20  # steps
_SHORT = {
    "max_steps": TRIAL,
    "max_epochs": -1,
    "limit_val_batches": 0,
    "num_sanity_val_steps": 0,
    "enable_checkpointing": False,
    "logger": False,
}


def step_seconds(jobs: Sequence[Job], networks: Mapping[str, str]) -> dict[str, float]:
    """The seconds of a step of each row, by the clock.

    Args:
        jobs: The runs of a comparison.
        networks: The row whose steps are as long as those of a row, by its name: a student that is
            trained plainly for longer takes the same steps.

    Returns:
        The seconds by the names of rows. One whose trial fails, such as before its teacher is
        trained, is left out.
    """
    found: dict[str, float] = {}
    for job in jobs:
        if job.recipe is not None and job.state in ("trained", "finished"):
            found.setdefault(job.name, _of(job))
    for job in jobs:
        name = networks.get(job.name, job.name)
        if name not in found and job.name == name:
            seconds = _tried(job)
            if seconds is not None:
                found[name] = seconds
    shared = {job.name: networks.get(job.name, job.name) for job in jobs}
    return {name: found.get(name, found[of]) for name, of in shared.items() if of in found}


def _tried(job: Job) -> float | None:
    """The seconds of a step, of the first ones in a folder that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="limbeck-trial-") as folder:
        own = {"default_root_dir": f"{folder}/run"} | _SHORT
        recipe = laid_over([job.recipe or {}, {"trainer": own}])
        path = written(Path(folder, "trial.yaml"), recipe)
        waited_for(["fit", "--config", str(path)], Path(folder, "log"))
        trial = Job(job.name, job.seed, recipe, Path(folder, "run"), {})
        return _of(trial) if trial.summary_path.exists() else None


def _of(job: Job) -> float:
    summary = job.summary()
    return float(summary["training_seconds"]["wall"]) / max(1, int(summary["steps"]))
