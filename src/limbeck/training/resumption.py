"""What lets a killed run go on exactly: where checkpoints stand, random numbers, counters."""

import os
import random
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint, Timer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.optim.lr_scheduler import LRScheduler

from limbeck.data.sampling import BATCHES, rank_and_world_size, sample_seed
from limbeck.training.logs import Rows

ASK_EVERY = 5  # steps, where several processes have to ask each other
_STOPPED = "stopped"  # the key of a checkpoint: whether a callback has ended the run


class AskedToEndError(SIGTERMException):
    """The run was asked to end, and stands in its last checkpoint.

    Args:
        number: The signal that asked it.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = signal.Signals(number)


class LastCheckpoint(Checkpoint):
    """Keeps where training stands in one file.

    It is written every ``every`` steps, after every epoch, every validation and the last step, and
    where the process is asked to end (SIGTERM, SIGINT), after the batch at hand. Where a validation
    is due after a batch, or an epoch ends, it is written after that validation and with the row of
    that epoch, which a resumed run would leave out otherwise. Lightning's ``ModelCheckpoint``
    writes its ``last.ckpt`` only where it found a new best, and its answer to SIGTERM stops a
    validation in the middle, and the processes of a run at different places.

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
        self._asked = self._ends = 0  # signals
        self._loops: dict[str, Any] | None = None  # where they stood as the run ended
        self._closing = False

    def _save(self, trainer: L.Trainer, row: int | None = None) -> None:
        """Save, unless nothing was trained since; ``row`` is the step of the row that is due."""
        if trainer.state.fn != "fit" or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if trainer.sanity_checking or trainer.fit_loop._should_accumulate():
            return  # nothing was trained, or gradients would be lost
        if trainer.global_step != self._step:
            self._step = trainer.global_step
            for logger in trainer.loggers:  # what is logged up to here is not logged again
                if isinstance(logger, Rows) and row is not None:
                    logger.log_ahead(trainer, row)
                logger.save()
            trainer.save_checkpoint(self.path)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note where the run begins: a resumed run stands in its checkpoint already."""
        self._step = trainer.global_step
        if threading.current_thread() is threading.main_thread():
            before: Any = trainer._signal_connector._original_handlers  # put back by Lightning
            for number in (signal.SIGTERM, signal.SIGINT):
                # Whoever started this process may have asked it to ignore a signal, as `&` does.
                ignored = before.get(number) is signal.SIG_IGN
                signal.signal(number, signal.SIG_IGN if ignored else self._ask)

    def _ask(self, number: int, _: Any) -> None:
        if number == self._asked == signal.SIGINT:
            os._exit(128 + number)
        self._asked = number
        if number == signal.SIGINT and rank_and_world_size()[0] == 0:
            os.write(2, _INTERRUPTED)  # a logger may be in the middle of a line

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save every so many steps, and where it was asked to end."""
        if self._closes_epoch(trainer) or trainer.fit_loop._should_accumulate():
            return
        if self._looks(trainer):
            self._ends = self._is_asked(trainer)
        due = bool(self._ends) or trainer.global_step % self.every == 0
        if due and not validation_follows(trainer):
            logs = trainer._logger_connector.should_update_logs
            self._save(trainer, _rows_step(trainer) if logs else None)

    def _closes_epoch(self, trainer: L.Trainer) -> bool:
        """Whether an epoch ends with this step: its validation and its row come before the save.

        Where the run ends within an epoch, it is noted where the loops stand: Lightning closes the
        epoch all the same, and a longer run goes on within it.
        """
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return False
        if last_of_epoch(trainer):
            return True
        stops = trainer.should_stop and trainer.fit_loop._can_stop_early
        if ends := trainer.global_step == trainer.max_steps or stops:
            self._loops = trainer._checkpoint_connector._get_loops_state_dict()
        return ends

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say where the loops stood before Lightning closed the epoch, and what has ended the run.

        A run whose ``trainer.max_time`` is over may go on where it is given more.
        """
        if self._closing and self._loops is not None:
            checkpoint["loops"] = self._loops
        timers = [c for c in trainer.callbacks if isinstance(c, Timer)]  # type: ignore[attr-defined]
        left = [seconds for c in timers if (seconds := c.time_remaining()) is not None]
        checkpoint[_STOPPED] = trainer.should_stop and min(left, default=1.0) > 0

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Train no further where another callback, such as ``EarlyStopping``, has ended the run.

        Another run that begins from this one's checkpoint is trained.
        """
        if checkpoint.get(_STOPPED) and Path(str(trainer.ckpt_path)) == self.path:
            trainer.should_stop = True

    def on_train_batch_start(self, *_: Any) -> None:
        """End where the batch before is logged, and before another one is begun."""
        if self._ends:
            raise AskedToEndError(self._ends)

    def _looks(self, trainer: L.Trainer) -> bool:
        return trainer.world_size == 1 or trainer.global_step % ASK_EVERY == 0

    def _is_asked(self, trainer: L.Trainer) -> int:
        """The signal by which any process was asked to end: all have to, after the same batch."""
        if trainer.world_size == 1:
            return self._asked
        asked = torch.tensor(self._asked, device=trainer.strategy.root_device)
        highest: Any = trainer.strategy.reduce(asked, reduce_op="max")
        return int(highest)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, unless the epoch ends here."""
        if not self._closes_epoch(trainer):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save with the row of the epoch, and ask whether the run is to end.

        Within an epoch of fewer than ``ASK_EVERY`` steps nobody may have asked.
        """
        self._closing = True
        self._save(trainer, _rows_step(trainer) - 1)
        self._closing, self._loops = False, None
        self._ends = self._ends or self._is_asked(trainer)


def _rows_step(trainer: L.Trainer) -> int:
    """The step of the row that Lightning logs next; that of an epoch is one less."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


_INTERRUPTED = (
    b"\nSIGINT: this ends after the batch at hand, and the validation that is due, with a "
    b"checkpoint. A second one ends at once.\n"
)


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


def validation_follows(trainer: L.Trainer) -> bool:
    """Whether Lightning validates between the batch at hand and the next one."""
    loop = trainer.fit_loop
    fetcher: Any = loop._data_fetcher
    return loop.epoch_loop._should_check_val_fx(fetcher)


def refuse_other_shapes(checkpoint: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of other networks; names that differ are told where it is loaded.

    Args:
        checkpoint: The checkpoint as it was loaded.
        state: What this run would load of it: the state of its module, by name.

    Raises:
        ValueError: Tensors of one name have other shapes.
    """
    before = checkpoint["state_dict"]
    shapes = {
        name: (tuple(before[name].shape), tuple(own.shape))
        for name, own in state.items()
        if isinstance(own, torch.Tensor) and name in before
    }
    differing = [name for name, (there, here) in shapes.items() if there != here]
    if differing:
        there, here = shapes[differing[0]]
        raise ValueError(
            f"the checkpoint is of other networks: {len(differing)} tensors have other shapes, "
            f"first {differing[0]}, which is {there} in it and {here} here. Keep model.student and "
            "model.methods as they were, or train the changed recipe anew."
        )


def refuse_other_optimizer(
    checkpoint: Mapping[str, Any], optimizer: torch.optim.Optimizer, scheduler: LRScheduler
) -> None:
    """Refuse a checkpoint whose optimizer or learning rate cannot be gone on with.

    Args:
        checkpoint: The checkpoint as it was loaded. One of weights alone is told by Lightning.
        optimizer: The optimizer of this run.
        scheduler: The learning rate of this run.

    Raises:
        ValueError: One is SGD and the other AdamW, they hold other groups of parameters, one
            learning rate alone is a one-cycle, or the one-cycles differ in their number of steps.
    """
    if not checkpoint.get("optimizer_states") or not checkpoint.get("lr_schedulers"):
        return
    groups, found = checkpoint["optimizer_states"][0]["param_groups"], []
    sizes, own_sizes = (
        [len(group["params"]) for group in each] for each in (groups, optimizer.param_groups)
    )
    if ("betas" in groups[0]) != ("betas" in optimizer.defaults):  # which AdamW alone has
        found.append("it has another model.optimizer.name")
    elif sizes != own_sizes:
        found.append(
            f"its optimizer has groups of {sizes} parameters, and this run's of {own_sizes}, "
            "which model.optimizer's factors, decays and frozen parameters make"
        )
    steps = checkpoint["lr_schedulers"][0].get("total_steps")
    own_steps = getattr(scheduler, "total_steps", None)
    if (steps is None) != (own_steps is None):
        found.append(f"its model.learning_rate.shape is {'not ' if steps is None else ''}one_cycle")
    elif steps != own_steps:
        found.append(
            f"its learning rate is a one-cycle of {steps} steps, and this run has {own_steps} "
            "(trainer.max_epochs, trainer.max_steps)"
        )
    if found:
        raise ValueError(
            f"the checkpoint is of another recipe: {'; '.join(found)}. Keep this as it was, or "
            "begin anew from the weights in the folder student/ of its run."
        )


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
