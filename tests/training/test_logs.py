import resource
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as L
import pytest

from limbeck.training.logs import EarlierRows, Rows, outlived
from limbeck.training.module import DistillationModule
from tests import tiny_models
from tests.training import tiny_runs


def test_logs_that_cannot_be_written_do_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logs = Rows(str(tmp_path), name="", version="")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Full(L.Callback):
        """From the second step to the end of the epoch."""

        def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
            room = 10 if 1 < trainer.global_step < 4 else hard
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))

    module = DistillationModule(tiny_models.classifier())
    data = tiny_runs.shapes("classification")
    try:
        tiny_runs.fit(module, data, tmp_path, Full(), logger=[logs], log_every_n_steps=1)
        logs.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert module.pair.number == 4
    assert "metrics.csv could not be written" in caplog.text
    assert (tmp_path / "metrics.csv").read_text().count("\n") > 3


def test_what_is_no_fault_of_the_disk_is_raised() -> None:
    with pytest.raises(ZeroDivisionError), outlived("metrics.csv"):
        raise ZeroDivisionError


def test_a_resumed_run_keeps_its_rows_but_those_after_the_checkpoint(tmp_path: Path) -> None:
    rows = ["step,loss", "0,3.5", "1,2.5", "2,1.5", "3"]  # the last one was cut off
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    logs = Rows(str(tmp_path), name="", version="")
    earlier = EarlierRows(logs)
    (tmp_path / "metrics.csv").unlink()  # as Lightning does

    earlier.setup(SimpleNamespace(), None, "validate")
    assert not (tmp_path / "metrics.csv").exists()
    earlier.setup(SimpleNamespace(), None, "fit")
    assert (tmp_path / "metrics.csv").read_text().split() == rows[:4]
    earlier.on_train_start(SimpleNamespace(global_step=2), None)
    assert (tmp_path / "metrics.csv").read_text().split() == rows[:3]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
