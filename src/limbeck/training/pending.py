"""What was logged of an epoch that is not over, as part of the checkpoints within it."""

import builtins
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.trainer.connectors.logger_connector.result import (
    _Metadata,
    _ResultCollection,
    _ResultMetric,
    _Sync,
)
from torch import distributed

from limbeck.data.sampling import rank_and_world_size
from limbeck.training.resumption import last_of_epoch

_KEY = "pending_logs"
_STATED = (
    "fx",
    "name",
    "prog_bar",
    "logger",
    "on_step",
    "on_epoch",
    "enable_graph",
    "add_dataloader_idx",
)
_NUMBERS = ("value", "cumulated_batch_size", "_forward_cache")
_REDUCTIONS = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (torch, builtins)
    for name in ("mean", "sum", "max", "min")
    if hasattr(module, name)
}


class PendingLogs(L.Callback):
    """Keeps what callbacks log with ``on_epoch=True`` through a kill within an epoch.

    Lightning's checkpoints leave it out, so that a resumed run would log the mean over the batches
    after the checkpoint for that of the epoch. It is kept for each process, as the means over
    processes are taken at the end of the epoch. Logged ``torchmetrics.Metric`` objects are not in
    it: their state is their owner's.
    """

    def __init__(self) -> None:
        self._restored: list[dict[str, Any]] = []

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put in what every process has logged of this epoch; what is over is logged already."""
        results: Any = trainer.fit_loop.epoch_loop._results
        found = [] if last_of_epoch(trainer) else kept(results)
        checkpoint[_KEY] = [found]
        if trainer.world_size > 1:
            checkpoint[_KEY] = [None] * trainer.world_size
            distributed.all_gather_object(checkpoint[_KEY], found)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take out what this process had logged."""
        every = checkpoint.get(_KEY, [])
        rank = rank_and_world_size()[0]
        self._restored = every[rank] if rank < len(every) else []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on with it; Lightning must not take the next batch for the first one of an epoch."""
        if self._restored:
            restore(trainer.fit_loop.epoch_loop._results, self._restored, trainer)
            trainer._logger_connector._first_loop_iter = True
            self._restored = []


def forget_terms(results: _ResultCollection) -> None:
    """Forget the terms of the step before, which Lightning would log again where a step has fewer.

    Args:
        results: Lightning's collection of what is logged.
    """
    for key, result in list(results.items()):
        if _is_of_a_step(result) and result.meta.name.startswith("train/"):
            del results[key]


def kept(results: _ResultCollection) -> list[dict[str, Any]]:
    """What was logged, as plain data.

    Args:
        results: Lightning's collection of what was logged.

    Returns:
        What restores each number. The losses are left out: they are logged anew in every step.
    """
    return [_plain(key, each) for key, each in results.items() if _is_kept(each)]


def _is_kept(result: _ResultMetric) -> bool:
    meta = result.meta
    named = meta.reduce_fx in _REDUCTIONS.values() and meta.sync.group is None
    return result.is_tensor and not result.has_reset and named and not _is_of_a_step(result)


def _is_of_a_step(result: _ResultMetric) -> bool:
    """Whether it is logged by every training step, for that step alone."""
    return result.meta.fx == "training_step" and not result.meta.on_epoch


def _plain(key: str, result: _ResultMetric) -> dict[str, Any]:
    meta = result.meta
    numbers = {name: getattr(result, name, None) for name in _NUMBERS}
    return {
        "key": key,
        "stated": {name: getattr(meta, name) for name in _STATED},
        "reduction": next(name for name, fx in _REDUCTIONS.items() if fx is meta.reduce_fx),
        "sync": {"_should": meta.sync.should, "rank_zero_only": meta.sync.rank_zero_only},
        "numbers": {n: value.cpu() for n, value in numbers.items() if value is not None},
    }


def restore(results: _ResultCollection, kept: list[dict[str, Any]], trainer: L.Trainer) -> None:
    """Make a collection hold what another one held.

    Args:
        results: Lightning's collection of what is logged.
        kept: What ``kept`` gave for the other one.
        trainer: The trainer, by whose strategy processes exchange what is logged.
    """
    device = trainer.strategy.root_device
    for each in kept:
        meta = _Metadata(**each["stated"], reduce_fx=_REDUCTIONS[each["reduction"]])
        meta.sync = _Sync(fn=trainer.strategy.reduce, **each["sync"])
        result = _ResultMetric(meta, is_tensor=True)
        for name, value in each["numbers"].items():
            setattr(result, name, value.to(device))
        result._update_count = 1
        results[each["key"]] = result.to(device)
