"""Says when training waits for its data, and how many loading workers would keep up."""

import logging
import math
import statistics
import time
from typing import Any

import lightning.pytorch as L

from limbeck.machine import cores
from limbeck.training.logs import USUAL, is_logged

log = logging.getLogger(__name__)

MUCH = 0.1  # of the time, which is worth a warning


class DataWaits(L.Callback):
    """Warns once where steps wait for their batches, with the number of workers that would do.

    It reads the host's clock alone. Between the steps that the trainer logs, a host may run ahead
    of its device and wait for batches while the device works. A logged step waits for the device,
    so how long a step takes without its data is read there. This callback comes after those that
    look at a logged step's values.

    The steps before the first one that is logged are not counted, as workers and kernels start in
    them, nor are the first ones of an epoch and those after a validation.

    Args:
        after: The number of steps over which waits are counted before they are judged.
    """

    def __init__(self, after: int = 100) -> None:
        self.after = after
        self._told = False
        self._begun = False
        self._last: tuple[float, float] | None = None
        self._forget()

    def _forget(self) -> None:
        self._steps, self._seconds, self._waited = 0, 0.0, 0.0
        self._undisturbed: list[float] = []  # seconds of logged steps without their waits

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave out the time until the workers have begun with the epoch."""
        self._last = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave out the time of the validation."""
        self._last = None

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count this step, and judge the steps so far where they are enough."""
        if self._told:
            return
        loader: Any = trainer.train_dataloader
        logged = is_logged(trainer, trainer.global_step, USUAL)
        before, self._last = self._last, (time.perf_counter(), loader.waited)
        if before is not None and self._begun:
            seconds, waited = (now - then for now, then in zip(self._last, before, strict=True))
            self._steps += 1
            self._seconds += seconds
            self._waited += waited
            if logged:
                self._undisturbed.append(seconds - waited)
        self._begun = self._begun or logged
        if self._steps >= self.after and self._undisturbed:
            self._judge(loader.num_workers, trainer)
            self._forget()

    def _judge(self, workers: int, trainer: L.Trainer) -> None:
        seconds, waited = self._seconds / self._steps, self._waited / self._steps
        found = advice(
            waited / seconds,
            # Where steps wait, all workers are busy.
            workers * seconds or waited,
            statistics.median(self._undisturbed),
            workers,
            max(1, cores() // trainer.num_devices),
        )
        if found is not None and trainer.is_global_zero:
            log.warning("%s", found)
        self._told = found is not None


def advice(share: float, load: float, step: float, workers: int, most: int) -> str | None:
    """What is to be said of steps that wait for their batches.

    Args:
        share: The share of the time in which steps waited.
        load: The seconds that loading one batch takes one worker.
        step: The seconds that a step takes without waiting.
        workers: The number of workers, or 0 where the main process loads.
        most: The number of cores for each training process.

    Returns:
        What was found and what helps, or None where it is nothing to speak of.
    """
    if share < MUCH or step <= 0:  # a coarse clock sees no time in short steps
        return None
    needed = math.ceil(load / step)
    if needed <= workers:
        return None
    found = (
        f"training waits for its data in {share:.0%} of the time: loading a batch takes "
        f"{load:.2g} s, and a step {step:.2g} s. data.workers is {workers}"
    )
    if needed <= most:
        return f"{found}; {needed} would keep up."
    others = (
        "smaller image files and fewer changes of colours in data.augmentation (jitter, "
        "photometric) make loading faster"
    )
    here = f"there are cores for only {most} here" if most > 1 else "there is one core here"
    if workers < most:
        return f"{found}; {needed} would keep up, but {here}. Set it to {most}; {others}."
    return f"{found}, and {here}: more workers would not help. {others.capitalize()}."
