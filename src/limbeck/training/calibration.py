"""The calibration of methods over many batches: when it happens, and on which images."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as L

from limbeck.methods.base import Calibration, Epochs
from limbeck.training.export import TrainingTime

log = logging.getLogger(__name__)

REPORT_EVERY = 30.0  # seconds


class Calibrate(L.Callback):
    """Calibrates methods (such as MGD's flow) before training, and again when they say so.

    Every process observes its share of the images, and a method's ``solve`` brings together what
    they saw. What was found is part of the method's state: a resumed run has it already, and goes
    on calibrating when an uninterrupted one would. This callback comes before whatever runs a step.

    Args:
        again: Whether to calibrate where a resumed run goes on, too.
    """

    def __init__(self, again: bool = False) -> None:
        self.again = again
        self.last: dict[str, int] = {}  # the step before which each method was calibrated

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Calibrate what is due before this batch."""
        module: Any = pl_module
        step = trainer.global_step
        for name, method in module.pair.methods.items():
            if method.calibration is None or (self.last.get(name) == step and not self.again):
                continue
            if (
                self.again
                or name not in self.last
                or is_due(method.calibration, step, trainer.current_epoch, batch_idx)
            ):
                timing = next(c for c in trainer.callbacks if isinstance(c, TrainingTime))  # type: ignore[attr-defined]
                with timing.counting():
                    self._calibrate(trainer, module, name, method.calibration)
                self.last[name] = step
        self.again = False

    def _calibrate(
        self, trainer: L.Trainer, module: Any, name: str, calibration: Calibration
    ) -> None:
        log.info("%s: calibrating on %d images", name, calibration.images)
        loader = module.data.calibration_dataloader(
            calibration.images, calibration.transform, trainer.global_step
        )
        began, seen = time.monotonic(), 0
        for batch in reported(loader, name):
            images, targets = trainer.strategy.batch_to_device(batch)
            with trainer.precision_plugin.train_step_context():
                module.pair.observe(images, targets, name)
            seen += len(images)
        module.pair.solve(name)
        seconds = time.monotonic() - began
        log.info("%s: calibrated on %d images a process in %.1f s", name, seen, seconds)

    def state_dict(self) -> dict[str, Any]:
        """The step before which each method was calibrated last."""
        return {"last": dict(self.last)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what the checkpoint holds, so that it is not found again."""
        self.last = dict(state_dict["last"])


def is_due(calibration: Calibration, step: int, epoch: int, batch: int) -> bool:
    """Whether a method is calibrated before a batch.

    Args:
        calibration: When the method is calibrated.
        step: The number of optimizer steps taken.
        epoch: The epoch of the batch, which counts from 0.
        batch: The number of the batch in its epoch, which counts from 0.

    Returns:
        True where it is.
    """
    when = calibration.when
    if isinstance(when, Epochs):
        return batch == 0 and epoch % when.every == 0
    slow = when.slow_from is not None and step >= when.slow_from
    return step % (when.slow_every if slow and when.slow_every else when.every) == 0


def reported(loader: Any, name: str) -> Iterator[Any]:
    """The batches of a loader; every half a minute a line says how far a method is with them.

    Args:
        loader: The loader.
        name: The name of the method.

    Yields:
        The batches.
    """
    last = time.monotonic()
    for number, batch in enumerate(loader):
        if time.monotonic() - last > REPORT_EVERY:
            last = time.monotonic()
            log.info("%s: %d of %d calibration batches", name, number, len(loader))
        yield batch
