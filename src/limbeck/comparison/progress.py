"""How far the runs of a comparison are, and how long they may still take."""

import json
import logging
import time
from collections.abc import Sequence

from limbeck.comparison.job import Job
from limbeck.comparison.parts import batches_of, steps_of
from limbeck.names import in_terminal
from limbeck.terminal import progress_bar

log = logging.getLogger(__name__)


class StepsBar:
    """One bar over the steps of all runs; a line in the log for each run that is finished.

    Attributes:
        jobs: The runs that are waited for, and those that were.
    """

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._steps: dict[str, int] = {}  # of a run, by the name of its row
        self._began = time.monotonic()
        self._at_first = 0
        self.bar = progress_bar("{task.description}", "{task.fields[left]}")
        self._task = self.bar.add_task("", total=None, left="")

    def expect(self, jobs: Sequence[Job]) -> None:
        """Wait for runs as well.

        Args:
            jobs: The runs, of which some may be waited for already.
        """
        known = {job.folder for job in self.jobs}
        new = list({job.folder: job for job in jobs if job.folder not in known}.values())
        self._steps |= steps([job for job in new if job.name not in self._steps])
        self.jobs += new
        self._at_first += sum(self._done(job) for job in new)

    def show(self) -> None:
        """Move the bar on to where the runs are."""
        ended = sum(job.state == "finished" for job in self.jobs)
        self.bar.update(
            self._task,
            total=sum(self._steps[job.name] for job in self.jobs),
            completed=sum(map(self._done, self.jobs)),
            description=f"{ended} of {len(self.jobs)} runs",
            left=self.left(),
        )

    def tell(self, job: Job) -> None:
        """Log that a run is finished.

        Args:
            job: The run.
        """
        ended = sum(each.state == "finished" for each in self.jobs)
        left = self.left()
        log.info(
            "%s is finished (%d of %d runs%s)",
            in_terminal(job.title),
            ended,
            len(self.jobs),
            f", {left}" if left else "",
        )

    def left(self) -> str:
        """How long the rest takes at the pace so far, in words; "" while there is none."""
        done = sum(map(self._done, self.jobs))
        new, rest = done - self._at_first, sum(self._steps[j.name] for j in self.jobs) - done
        if new <= 0 or rest <= 0:
            return ""
        return f"about {roughly(rest * (time.monotonic() - self._began) / new)} left"

    def _done(self, job: Job) -> int:
        whole = self._steps[job.name]
        return whole if job.state in ("trained", "finished") else min(whole, job.steps_done())


def steps(jobs: Sequence[Job]) -> dict[str, int]:
    """The optimizer steps of runs; data that several rows state are built once.

    Args:
        jobs: The runs. Those of one row have as many steps.

    Returns:
        The number by the name of each row: 0 where nothing is trained, or nobody knows.
    """
    found = {job.name: 0 for job in jobs}
    recipes = {job.name: job.recipe for job in jobs if job.recipe is not None}
    batches: dict[str, int] = {}  # in an epoch, by what is stated of the data
    for name, recipe in recipes.items():
        data = json.dumps(recipe.get("data"), sort_keys=True, default=str)
        if data not in batches:
            batches[data] = batches_of(recipe)
        found[name] = steps_of(recipe, batches[data]) or 0
    return found


def roughly(seconds: float) -> str:
    """A time in words: in hours and minutes, in minutes, or in seconds."""
    if seconds < 90:
        return f"{round(seconds)} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
