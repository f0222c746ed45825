"""The training runs of a comparison: each begun, gone on with, or taken over as it was found."""

import fcntl
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import yaml

from limbeck.comparison.comparison import Recipe
from limbeck.texts import read_text

log = logging.getLogger(__name__)

Command = list[str]
_POLL = 1.0  # seconds between two looks at a run
_TAIL = 12  # lines of a failed run's log that are shown


@dataclass(frozen=True)
class Job:
    """One training run, and its place.

    Attributes:
        name: The name of its row.
        seed: Its seed.
        recipe: Its whole recipe.
        folder: Its folder, whose name ends in the run's identity.
        scoring: The recipe that its student is scored with.
    """

    name: str
    seed: int
    recipe: Recipe
    folder: Path
    scoring: Recipe

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.name}, seed {self.seed}"

    @property
    def predictions(self) -> Path:
        """The file of what its student predicts, the last one that is written."""
        return self.folder / "predictions" / "student.safetensors"

    @property
    def state(self) -> str:
        """How far it is: ``finished``, ``trained``, ``begun`` or ``missing``."""
        if self.predictions.exists():
            return "finished"
        if (self.folder / "student/student.json").exists() and self.summary_path.exists():
            return "trained"
        return "begun" if (self.folder / "config.yaml").exists() else "missing"

    @property
    def summary_path(self) -> Path:
        """The file with what it took to train it."""
        return self.folder / "summary.json"

    def summary(self) -> dict[str, Any]:
        """What it took to train it, as a finished run has written it."""
        found: dict[str, Any] = json.loads(read_text(self.summary_path))
        return found

    def seconds(self) -> float:
        """The seconds in training batches: of the CPU where it has trained, else by the clock."""
        summary = self.summary()
        on_cpu = summary.get("device", "cpu") == "cpu"
        return float(summary["training_seconds"]["cpu" if on_cpu else "wall"])

    def steps_done(self) -> int:
        """The last step of which a running run has logged something."""
        path = self.folder / "metrics.csv"
        if not path.exists():
            return 0
        with path.open("rb") as file:
            columns = file.readline().decode(errors="replace").strip().split(",")
            file.seek(max(0, path.stat().st_size - 4096))
            last = file.read().decode(errors="replace").rstrip().rpartition("\n")[2].split(",")
        step = last[columns.index("step")] if "step" in columns and len(last) > 1 else ""
        return int(step) if step.isdigit() else 0


class RunFailedError(RuntimeError):
    """A training run of a comparison has failed."""


class Runs:
    """Trains and scores what is missing, several runs at once where that is asked for.

    Args:
        logs: The folder for what the runs say.
        jobs: The number of runs at once.
        progress: Takes each job when it is finished.
    """

    def __init__(self, logs: Path, jobs: int, progress: Callable[[Job], None]) -> None:
        self.logs = logs
        self.jobs = jobs
        self.progress = progress
        self._going: dict[int, subprocess.Popen[bytes]] = {}
        self._ended = False
        self._lock = Lock()

    def finish(self, jobs: Sequence[Job]) -> None:
        """Train and score all of them, the first ones first.

        Args:
            jobs: The runs. Those that share a folder are trained once.

        Raises:
            RunFailedError: One of them has failed; those that were running were trained to their
                end, no others were begun.
        """
        missing = list({job.folder: job for job in jobs if job.state != "finished"}.values())
        with ThreadPoolExecutor(self.jobs) as pool:
            results = [pool.submit(self._finish, number, job) for number, job in enumerate(missing)]
            try:
                for result in results:
                    result.result()
            except BaseException:
                for result in results:
                    result.cancel()
                raise

    def end(self, asked: int = signal.SIGTERM) -> None:
        """Ask all that is running to end, as with a signal; what was trained is kept."""
        with self._lock:
            self._ended = True
            for process in self._going.values():
                process.send_signal(asked)

    def _finish(self, number: int, job: Job) -> None:
        _wait_until_free(job)
        if job.state in ("missing", "begun"):
            self._run(job, self._training(job), number)
        if job.state == "trained":
            recipe = _written(job.folder / "scoring.yaml", job.scoring)
            folder = ("--predictions", str(job.predictions.parent))
            self._run(job, ["validate", "--config", str(recipe), *folder], number)
        self.progress(job)

    def _training(self, job: Job) -> Command:
        if job.state == "begun":
            return ["fit", "--resume", str(job.folder)]
        recipe = _written(self.logs / f"{job.folder.name}.yaml", job.recipe)
        return ["fit", "--config", str(recipe)]

    def _run(self, job: Job, words: Command, number: int) -> None:
        log_path = self.logs / f"{job.folder.name}.log"
        command = [sys.executable, "-m", "limbeck", *words]
        with self._lock:
            if self._ended:
                return
            with log_path.open("ab") as output:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=_environment(number, self.jobs),
                    start_new_session=True,  # Ctrl-C is handed on once, by end()
                )
            self._going[id(job)] = process
        code = process.wait()
        with self._lock:
            del self._going[id(job)]
        if code != 0 and not self._ended:
            said = read_text(log_path).rstrip().splitlines()[-_TAIL:]
            raise RunFailedError(
                f"{job.title} has failed (exit {code}):\n  " + "\n  ".join(said) + f"\nAll that it "
                f"said is in {log_path}. What was trained is kept: mend the cause, and give the "
                "same command again."
            )


def _environment(number: int, jobs: int) -> dict[str, str]:
    """The variables of a run; of several at once, each has its share of the cores or a device."""
    if jobs == 1:
        return dict(os.environ)
    import torch

    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    own = {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
    if devices := torch.cuda.device_count():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(devices))))
        own["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number % devices]
    return os.environ | own


def _written(path: Path, recipe: Recipe) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def _wait_until_free(job: Job) -> None:
    """Wait for a run that a killed comparison has left running, and that goes on by itself."""
    said = False
    while _is_held(job.folder / ".lock"):
        if not said:
            log.info("%s is being trained by another process, which is waited for.", job.title)
            said = True
        time.sleep(_POLL)


def _is_held(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def slug(name: str) -> str:
    """A name as a part of a folder's name, which the identity behind it makes unique."""
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()[:60] or "row"
