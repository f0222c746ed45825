"""A callback for recipes whose runs are to be killed."""

import os
import signal
from typing import Any

import lightning.pytorch as L


class Kill(L.Callback):
    """Sends this process the signal of ``KILL=<name>@<step>`` once it has taken that step.

    It comes before the checkpoint of that step is written.
    """

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        name, _, step = os.environ.get("KILL", "").partition("@")
        if name and trainer.global_step == int(step):
            os.kill(os.getpid(), getattr(signal, name))
