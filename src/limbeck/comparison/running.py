"""The training runs of a comparison: each begun, gone on with, or taken over as it was found."""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import RLock, current_thread, main_thread
from types import FrameType

import torch
import yaml
from lightning.pytorch.utilities.exceptions import SIGTERMException

from limbeck.comparison.job import Job
from limbeck.comparison.progress import StepsBar
from limbeck.machine import cores
from limbeck.recipe import Recipe

log = logging.getLogger(__name__)

Command = list[str]
_POLL = 1.0  # seconds between two looks at a run
_TAIL = 12  # lines of a failed run's log that are shown


class RunFailedError(RuntimeError):
    """A training run of a comparison has failed."""


class Runs:
    """Trains and scores what is missing, several runs at once where that is asked for.

    Args:
        logs: The folder for what the runs say.
        jobs: The number of runs at once.
    """

    def __init__(self, logs: Path, jobs: int) -> None:
        self.logs = logs
        self.jobs = jobs
        self.progress = StepsBar()
        self._going: dict[int, subprocess.Popen[bytes]] = {}
        self._ended = self._failed = False
        self._lock = RLock()  # end() may be asked again while it is at it
        self._places: SimpleQueue[int] = SimpleQueue()  # of runs at once, each with its device
        for place in range(jobs):
            self._places.put(place)

    def __enter__(self) -> "Runs":
        self.logs.mkdir(parents=True, exist_ok=True)
        self.progress.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.bar.stop()

    def expect(self, jobs: Sequence[Job]) -> None:
        """Count runs among those that the time left is about.

        Args:
            jobs: The runs.
        """
        self.progress.expect(jobs)

    def finish(self, jobs: Sequence[Job]) -> None:
        """Train and score all of them, the first ones first.

        Args:
            jobs: The runs. Those that share a folder are trained once.

        Raises:
            RunFailedError: One of them has failed; those that were running were trained to their
                end, no others were begun. Of several, the first in the order of the runs is
                raised, and the others are logged.
        """
        self.progress.expect(jobs)
        self._failed = False
        missing = list({job.folder: job for job in jobs if job.state != "finished"}.values())
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(self._finish, job) for job in missing]
            try:
                while wait(futures, _POLL).not_done:
                    self.progress.show()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        failures = [failure for future in futures if (failure := future.exception())]
        for failure in failures[1:]:
            log.error("%s", failure)
        if failures:
            raise failures[0]

    def end(self, asked: int = signal.SIGTERM) -> None:
        """Ask all that is running to end, as with a signal; what was trained is kept."""
        with self._lock:
            self._ended = True
            for process in self._going.values():
                process.send_signal(asked)

    def _finish(self, job: Job) -> None:
        place = self._places.get()
        try:
            self._train_and_score(job, place)
        except BaseException:
            self._failed = True  # before this thread takes up another run
            raise
        finally:
            self._places.put(place)

    def _train_and_score(self, job: Job, place: int) -> None:
        self._wait_until_free(job)
        if job.state in ("missing", "begun"):
            self._run(job, self._training(job, job.recipe), place)
        if job.state == "trained":
            recipe = written(job.folder / "scoring.yaml", job.scoring)
            folder = ("--predictions", str(job.predictions.parent))
            self._run(job, ["validate", "--config", str(recipe), *folder], place)
        if job.state == "finished":
            self.progress.tell(job)

    def _wait_until_free(self, job: Job) -> None:
        """Wait for a run that a killed comparison has left running, and that goes on by itself."""
        said = False
        while not (self._ended or self._failed) and _is_held(job.folder / ".lock"):
            if not said:
                log.info("%s is being trained by another process, which is waited for.", job.title)
                said = True
            time.sleep(_POLL)

    def _training(self, job: Job, recipe: Recipe | None) -> Command:
        if job.state == "begun":
            return ["fit", "--resume", str(job.folder)]
        path = written(self.logs / f"{job.folder.name}.yaml", recipe or {})
        return ["fit", "--config", str(path)]

    def _run(self, job: Job, words: Command, place: int) -> None:
        log_path = self.logs / f"{job.folder.name}.log"
        with self._lock:
            if self._ended or self._failed:
                return
            process = start(words, log_path, _own_variables(place, self.jobs))
            self._going[id(job)] = process
        code = process.wait()
        with self._lock:
            del self._going[id(job)]
        if code != 0 and not self._ended:
            said = log_path.read_text(errors="replace").rstrip().splitlines()[-_TAIL:]
            raise RunFailedError(
                f"{job.title} has failed (exit {code}):\n  " + "\n  ".join(said) + f"\nAll that it "
                f"said is in {log_path}. What was trained is kept: mend the cause, and give the "
                "same command again."
            )


@contextmanager
def ended_together(hand_on: Callable[[int], None]) -> Iterator[None]:
    """Hand signals that ask this process to end on to its runs, which keep what they trained.

    Signals come to the main thread alone; in another one there are none to hand on.

    Args:
        hand_on: Sends a signal to what is running, such as :meth:`Runs.end`.

    Yields:
        Nothing.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        hand_on(number)
        raise KeyboardInterrupt if number == signal.SIGINT else SIGTERMException

    asked = (signal.SIGINT, signal.SIGTERM) if current_thread() is main_thread() else ()
    before = {number: signal.getsignal(number) for number in asked}
    try:
        for number in asked:
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start(words: Command, log_path: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start ``limbeck`` in a process of its own.

    Args:
        words: The words after ``limbeck``.
        log_path: The file that what it says is added to.
        variables: What its environment has besides that of this process.

    Returns:
        The process.
    """
    with log_path.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "limbeck", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | variables,
            start_new_session=True,  # Ctrl-C is handed on once, by Runs.end()
        )


def waited_for(words: Command, log_path: Path) -> int | None:
    """Run ``limbeck`` in a process of its own, which does not outlive this one's end by a signal.

    Args:
        words: The words after ``limbeck``.
        log_path: The file that what it says is added to.

    Returns:
        Its exit code.
    """
    process = start(words, log_path, {})
    try:
        with ended_together(process.send_signal):
            return process.wait()
    finally:
        process.wait()


def _own_variables(place: int, jobs: int) -> dict[str, str]:
    """What the environment of one of several runs at once has: its share of cores, its device."""
    if jobs == 1:
        return {}
    threads = str(max(1, cores() // jobs))
    own = {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
    if devices := torch.cuda.device_count():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(devices))))
        own["CUDA_VISIBLE_DEVICES"] = visible.split(",")[place % devices]
    return own


def written(path: Path, recipe: Recipe) -> Path:
    """Write a recipe.

    Args:
        path: The file. Its folder is made where it is missing.
        recipe: What it states.

    Returns:
        The file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def _is_held(path: Path) -> bool:
    try:
        with path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:  # its owner removes it when it ends
        return False
    except OSError:
        return True
    return False
