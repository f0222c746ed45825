from pathlib import Path

import lightning.pytorch as L
import pytest

from limbeck.training.logs import EarlierRows, Rows, rows_of
from limbeck.training.module import DistillationModule
from limbeck.training.resumption import LastCheckpoint
from tests import tiny_models
from tests.commands.killing import Means
from tests.training import tiny_runs


class PowerCut(L.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == self.step:
            raise KeyError("power cut")


def rows(folder: Path, *callbacks: L.Callback, checkpoint: Path | None = None) -> list[object]:
    """What is logged in two epochs of 4 steps."""
    module = DistillationModule(tiny_models.classifier(0), optimizer=tiny_runs.PLAIN_SGD)
    data = tiny_runs.shapes("classification")
    log, last = Rows(folder, name="", version=""), LastCheckpoint(folder / "last.ckpt", 1)
    options = {"max_epochs": 2, "logger": [log], "log_every_n_steps": 1}
    own = (Means(), *callbacks, EarlierRows(log), last)
    tiny_runs.fit(module, data, folder, *own, checkpoint=checkpoint, **options)
    return list(rows_of(folder / "metrics.csv"))


@pytest.mark.parametrize("steps", [(2,), (5, 7)])
def test_what_is_logged_of_an_epoch_outlives_a_kill_within_it(
    steps: tuple[int, ...], tmp_path: Path
) -> None:
    whole = rows(tmp_path / "whole")
    assert "own/mean_epoch" in str(whole)
    run, last = tmp_path / "run", None
    for step in steps:
        with pytest.raises(KeyError):
            rows(run, PowerCut(step), checkpoint=last)
        last = run / "last.ckpt"
    assert rows(run, checkpoint=last) == whole
