"""A callback for recipes whose runs are to be killed."""

import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as L


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
