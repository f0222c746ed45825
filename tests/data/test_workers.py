"""Loading workers leave the signals of others to the process that they load for."""

import multiprocessing
import os
import signal
import subprocess

import pytest
from torch.multiprocessing import start_processes

from limbeck.data import Shapes
from limbeck.training.data import DataModule


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
        worker.join(60)  # a busy machine takes its time
        assert worker.exitcode == 0


def process(_: int, start: str) -> None:
    multiprocessing.set_start_method(start, force=True)
    workers_are_asked_to_end()


@pytest.mark.parametrize("start", ["fork", "forkserver"])
def test_workers_leave_the_signals_of_others_to_the_process_that_they_are_for(start: str) -> None:
    # In a process of its own, as signals and threads of other tests stay in this one.
    start_processes(process, (start,), nprocs=1, start_method="forkserver")
