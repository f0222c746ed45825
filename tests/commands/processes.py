"""Processes that do not import everything anew: of a comparison's runs, and to hold a folder."""

import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import torch

from limbeck.cli import main
from limbeck.commands.folder import held_alone
from limbeck.comparison import running

PROCESSES = multiprocessing.get_context("forkserver")


def in_its_own_process(log_path: Path, folder: Path, variables: dict[str, str], words: Any) -> None:
    """``limbeck`` with these words, in a process that does not import everything anew."""
    os.setsid()
    torch.set_num_threads(1)
    os.chdir(folder)
    os.environ.update(variables)
    with log_path.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    running.start = start  # type: ignore[assignment]
    main(words)


def hold(folder: Path, held: Event) -> None:
    with held_alone(folder):
        held.set()
        time.sleep(300)


@contextmanager
def holder_of(folder: Path) -> Iterator[int]:
    """The number of a process that holds a run's folder, until it is killed at the end."""
    held = PROCESSES.Event()
    process = PROCESSES.Process(target=hold, args=(folder.absolute(), held))
    process.start()
    assert held.wait(300)
    assert process.pid is not None
    try:
        yield process.pid
    finally:
        process.kill()
        process.join()


class Started:
    """What a comparison needs of ``subprocess.Popen``."""

    def __init__(self, process: BaseProcess) -> None:
        self.process = process

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid or 0, number)


def start(words: Sequence[str], log_path: Path, variables: Mapping[str, str]) -> Started:
    arguments = (log_path.absolute(), Path.cwd(), dict(variables), list(words))
    process = PROCESSES.Process(target=in_its_own_process, args=arguments)
    process.start()
    return Started(process)
