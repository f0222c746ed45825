"""Runs of a second in Python: their data, and the trainer."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Checkpoint

from limbeck.data import Shapes
from limbeck.training.data import DataModule
from limbeck.training.module import DistillationModule
from limbeck.training.optimization import LearningRate, Optimizer

STEADY = LearningRate("constant", warm_up=0)
PLAIN_SGD = Optimizer("sgd", lr=0.01, momentum=0.0, weight_decay=0.0)


def shapes(task: Any = "detection", train: int = 32, val: int = 8) -> DataModule:
    """Batches of 8."""
    return DataModule(
        Shapes(task, size=64, count=val, seed=0),
        Shapes(task, size=64, count=train, seed=1),
        batch_size=8,
        workers=0,
    )


def fit(
    module: DistillationModule,
    data: DataModule,
    folder: Path,
    *callbacks: L.Callback,
    checkpoint: Path | None = None,
    **options: Any,
) -> L.Trainer:
    """One epoch, unless the options say otherwise; nothing is shown or logged."""
    stated = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": any(isinstance(c, Checkpoint) for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    trainer = L.Trainer(default_root_dir=folder, callbacks=list(callbacks), **stated | options)
    trainer.fit(module, data, ckpt_path=checkpoint)
    return trainer


class Watch(L.Callback):
    """Calls a function with the module at the start of every batch."""

    def __init__(self, see: Any) -> None:
        self.see = see

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        self.see(pl_module)
