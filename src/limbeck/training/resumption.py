"""What lets a killed run go on exactly: whole checkpoints, random numbers by place, counters."""

import logging
import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from limbeck.data.sampling import BATCHES, rank_and_world_size, sample_seed

log = logging.getLogger(__name__)

ASK_EVERY = 5  # steps, where several processes have to ask each other


class WholeCheckpoints(TorchCheckpointIO):
    """Writes each checkpoint beside its place and renames it: it is there whole, or not at all.

    One that cannot be written (a full disk) costs nothing that was trained: the one before it
    stays, training goes on, and the next one tries again.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None
    ) -> None:
        """Write, wait until it is on the disk, and put it in its place."""
        path = Path(path)
        partial = path.with_name(f"{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except (OSError, RuntimeError) as error:
            # torch closes the broken file with an error of its own.
            if isinstance(error, RuntimeError) and not isinstance(error.__context__, OSError):
                raise
            partial.unlink(missing_ok=True)
            kept = f"{path} is of an earlier step" if path.exists() else "there is none yet"
            log.error(
                "%s could not be written (%s): %s. Training goes on, and the next checkpoint tries "
                "again. Free space or make the folder writable before it ends.",
                path,
                error,
                kept,
            )


class BestCheckpoint(ModelCheckpoint):
    """Lightning's callback for the best checkpoint, which also survives that a run is moved.

    Lightning's own forgets its best score where the folder of a run was moved or copied.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best score to be that of the file in this run's folder."""
        here: dict[str, Any] = {"dirpath": self.dirpath}
        if state_dict["best_model_path"]:
            best = str(Path(str(self.dirpath), Path(state_dict["best_model_path"]).name))
            here |= {"best_model_path": best, "kth_best_model_path": best}
            here |= {"best_k_models": {best: state_dict["best_model_score"]}}
        super().load_state_dict(state_dict | here)


class LastCheckpoint(Checkpoint):
    """Keeps where training stands in one file.

    It is written every ``every`` steps, after every epoch, every validation and the last step, and
    where the process is asked to end (SIGTERM), after the batch at hand. Lightning's
    ``ModelCheckpoint`` writes its ``last.ckpt`` only where it found a new best, and its answer to
    SIGTERM stops a validation in the middle, and the processes of a run at different places.

    Args:
        path: The file, which is replaced.
        every: The number of optimizer steps after which it is written.

    Raises:
        ValueError: ``every`` is less than 1.
    """

    def __init__(self, path: Path, every: int = 1000) -> None:
        if every < 1:
            raise ValueError(f"checkpoint_every is {every}; expected 1 or more steps")
        self.path = path
        self.every = every
        self._step = 0
        self._asked = self._ends = False

    def _save(self, trainer: L.Trainer) -> None:
        if trainer.state.fn != "fit" or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if trainer.sanity_checking or trainer.fit_loop._should_accumulate():
            return  # nothing was trained, or gradients would be lost
        if trainer.global_step != self._step:
            self._step = trainer.global_step
            for logger in trainer.loggers:  # what is logged up to here is not logged again
                logger.save()
            trainer.save_checkpoint(self.path)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note where the run begins: a resumed run stands in its checkpoint already."""
        self._step = trainer.global_step
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._ask)  # Lightning puts back what was there before

    def _ask(self, *_: Any) -> None:
        self._asked = True

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save every so many steps, and after the last one before Lightning closes its epoch."""
        if trainer.global_step == trainer.max_steps or trainer.should_stop:
            self._save(trainer)
        elif last_of_epoch(trainer):
            return  # what follows belongs to the epoch: validation, and another checkpoint
        elif trainer.fit_loop._should_accumulate():
            return
        elif self._looks(trainer) and self._is_asked(trainer):
            self._save(trainer)
            self._ends = True
        elif trainer.global_step % self.every == 0:
            self._save(trainer)

    def on_train_batch_start(self, *_: Any) -> None:
        """End where the batch before is logged, and before another one is begun."""
        if self._ends:
            raise SIGTERMException

    def _looks(self, trainer: L.Trainer) -> bool:
        return trainer.world_size == 1 or trainer.global_step % ASK_EVERY == 0

    def _is_asked(self, trainer: L.Trainer) -> bool:
        """Whether any process was asked to end: all of them have to, after the same batch."""
        if trainer.world_size == 1:
            return self._asked
        asked = torch.tensor(float(self._asked), device=trainer.strategy.root_device)
        total: Any = trainer.strategy.reduce(asked, reduce_op="sum")
        return bool(total)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, unless nothing was trained since."""
        self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, unless validation has just done it; short epochs are not asked within."""
        self._save(trainer)
        self._ends = self._ends or self._is_asked(trainer)


class RandomNumbers(L.Callback):
    """Makes the random numbers of every batch a function of seed, batch and process.

    So dropout and the sampling of anchors and regions are in a resumed run what they would have
    been, on every process, without any generator's state in the checkpoint. The data has its own
    (``limbeck.data.sampling``). This callback comes last, so that what others draw is undone.
    """

    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any
    ) -> None:
        """Seed the generators that models draw from."""
        module: Any = pl_module
        rank = rank_and_world_size()[0]
        seed = sample_seed(module.data.seed, self.batches, rank, BATCHES)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - models of others draw from it
        self.batches += 1

    def state_dict(self) -> dict[str, Any]:
        """The number of batches that were begun."""
        return {"batches": self.batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.batches = state_dict["batches"]


def last_of_epoch(trainer: L.Trainer) -> bool:
    """Whether the batch at hand is the last of its epoch."""
    return bool(trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)


def begin_next_epoch(trainer: L.Trainer, checkpoint: dict[str, Any]) -> None:
    """Make a run that is resumed where an epoch ended begin the next one.

    Lightning 2.6 resumes such a checkpoint as if the epoch were to be finished, with counters that
    are one off where that happens twice or with ``max_steps``. So it gets the counters of all that
    was done, and nothing to finish. Elsewhere in an epoch its own way is exact.

    Args:
        trainer: The trainer, which is about to restore its loops.
        checkpoint: The checkpoint as it was loaded. The state of the loops is taken out of it where
            it was used here.
    """
    progress = checkpoint["loops"]["fit_loop"]
    if not progress["epoch_loop.batch_progress"]["is_last_batch"]:
        return
    epochs = progress["epoch_progress"]["total"]["ready"]
    done = dict.fromkeys(("ready", "started", "processed", "completed"), epochs)
    steps = checkpoint["global_step"]
    # Lightning looks at the loader's state only where an epoch goes on: it may not fit.
    for state in progress["state_dict"].get("combined_loader", ()):
        trainer.datamodule.train_dataloader().load_state_dict(state)  # type: ignore[attr-defined]
    fit_loop = trainer.fit_loop
    fit_loop.load_state_dict(
        progress
        | {
            "epoch_progress": {"total": done, "current": dict(done)},
            "epoch_loop.state_dict": {"_batches_that_stepped": steps},
        }
    )
    for loop in (fit_loop, fit_loop.epoch_loop, fit_loop.epoch_loop.val_loop):
        loop.on_iteration_done()  # nothing is restarting
    del checkpoint["loops"]
