"""Loading workers leave the signals of others to the process that they load for."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from limbeck.data import Shapes
from limbeck.training.data import DataModule

ROOT = Path(__file__).parents[2]


def workers_are_asked_to_end() -> None:
    loader = DataModule(
        Shapes(count=10, size=32), Shapes(count=10, size=32), batch_size=2, workers=2
    ).train_dataloader()
    batches = iter(loader)
    for _ in range(2):  # one of each worker, which has then begun: a forked server starts slowly
        next(batches)
    workers = loader._iterator._workers  # active_children() also has those of other tests
    assert len(workers) == 2
    for worker in workers:
        for number in ("TERM", "INT"):  # as a scheduler or a terminal sends it to the whole group
            subprocess.run(["kill", f"-{number}", str(worker.pid)], check=True)
    assert len(list(batches)) == 3
    for worker in workers:
        os.kill(worker.pid, signal.SIGTERM)
        worker.join(10)
        assert worker.exitcode == 0


@pytest.mark.parametrize("start", ["fork", "forkserver"])
def test_workers_leave_the_signals_of_others_to_the_process_that_they_are_for(start: str) -> None:
    # In a program of its own, as signals and threads of other tests stay in this one.
    program = (
        f"import multiprocessing; multiprocessing.set_start_method({start!r}); "
        "multiprocessing.set_forkserver_preload(['limbeck.training.data']); "
        "from tests.data import test_workers; test_workers.workers_are_asked_to_end()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300, cwd=ROOT)
