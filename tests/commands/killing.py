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
