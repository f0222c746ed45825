"""A callback for recipes whose runs are to be killed, and processes to kill."""

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.pytorch.utilities import rank_zero_only

from limbeck.cli import main


class Kill(L.Callback):
    """Sends this process the signal of ``KILL=<name>@<step>[ <window>]``.

    Without a window that is once it has taken the step, before the checkpoint of that step is
    written. The window ``validation`` is the beginning of the validation after that step, that of a
    file's name the moment after the file was put in its place. Of several processes,
    ``KILL_RANK`` is the only one that gets the signal.
    """

    def __init__(self) -> None:
        self.name, _, when = os.environ.get("KILL", "").partition("@")
        self.step, _, self.window = when.partition(" ")

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self.window in ("", "validation"):
            return
        replace = Path.replace

        def watched(path: Path, target: Path) -> Path:
            there = replace(path, target)
            if there.name == self.window:
                self.kill(trainer)
            return there

        Path.replace = watched  # type: ignore[method-assign, assignment]

    def kill(self, trainer: L.Trainer) -> None:
        chosen = int(os.environ.get("KILL_RANK", trainer.global_rank)) == trainer.global_rank
        if self.name and chosen and trainer.global_step == int(self.step):
            os.kill(os.getpid(), getattr(signal, self.name))

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if not self.window:
            self.kill(trainer)

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        if self.window == "validation":
            self.kill(trainer)


class Means(L.Callback):
    """Logs over epochs in every way that a callback has."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step + 1.0
        pl_module.log("own/begun", step**2, on_epoch=True, on_step=False)
        if batch_idx == 0:  # not again in the epoch that is resumed
            pl_module.log("own/first", step / 3, on_epoch=True, on_step=True)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        step = trainer.global_step + 0.1
        pl_module.log("own/mean", step, on_epoch=True, on_step=True, batch_size=trainer.global_step)
        for name, reduction in {"sum": sum, "max": max, "min": "min"}.items():
            pl_module.log(f"own/{name}", step, on_epoch=True, on_step=False, reduce_fx=reduction)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.log("own/epoch", float(trainer.current_epoch))


def in_its_own_process(rank: int, folder: Path, environment: dict[str, str], *words: str) -> None:
    """``limbeck`` as one of the processes that a launcher starts."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    os.chdir(folder)
    os.environ |= environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    rank_zero_only.rank = rank  # Lightning reads it from there when it is imported
    main(words)


def limbeck(*words: object, processes: int = 1, kill: str = "") -> list[int | None]:
    """Exit codes of ``limbeck`` in processes of its own, which are killed after a step."""
    environment = {
        "KILL": kill,
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(find_free_network_port()),
    }
    arguments = (Path.cwd(), environment, *map(str, words))
    context = multiprocessing.get_context("forkserver")
    started = [
        context.Process(target=in_its_own_process, args=(rank, *arguments))
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    return [process.exitcode for process in started]
