import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import pytest
from lightning.pytorch.loggers import CSVLogger

from limbeck.training.logs import EarlierRows, Events, Rows, is_logged, loggers, rows_of
from limbeck.training.module import DistillationModule
from limbeck.training.writing import UNWRITTEN
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


@pytest.mark.parametrize("stated", [None, True, []])
def test_a_run_whose_recipe_names_no_logger_has_its_own(tmp_path: Path, stated: Any) -> None:
    assert [type(logger) for logger in loggers(str(tmp_path), stated)] == [Rows, Events]


def test_loggers_of_a_recipe_stand_behind_those_of_the_run(tmp_path: Path) -> None:
    one, other = CSVLogger(tmp_path), CSVLogger(tmp_path)
    assert loggers(str(tmp_path), one)[2:] == [one]
    assert loggers(str(tmp_path), [one, other])[2:] == [one, other]


def resumed(folder: Path, step: int) -> Rows:
    """The log of a run that goes on from a checkpoint."""
    rows = Rows(str(folder), name="", version="")
    EarlierRows(rows).on_load_checkpoint(None, None, {"global_step": step})
    return rows


def test_a_resumed_run_keeps_its_rows_but_those_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    rows = ["loss,step", "3.5,0", "2.5,1", "1.5,2", "0.12"]  # the last one was cut off
    path.write_text("\n".join(rows))
    again = resumed(tmp_path, 2)
    again.save()
    assert path.read_text().split() == rows  # until there is something to write
    again.log_metrics({"loss": 1.25}, 2)
    again.save()
    assert path.read_text().split() == [*rows[:3], "1.25,2"]
    again.log_metrics({"lr": 0.1}, 3)
    again.save()
    assert path.read_text().split() == ["loss,lr,step", "3.5,,0", "2.5,,1", "1.25,,2", ",0.1,3"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_finished_run_s_rows_are_settled_where_none_is_added(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("loss,step\n3.5,0\n2.5,1\n1.5,2\n")
    rows = Rows(str(tmp_path), name="", version="")
    earlier = EarlierRows(rows)
    earlier.on_load_checkpoint(None, None, {"global_step": 2})
    for _ in range(2):
        earlier.on_fit_end(None, None)
        assert path.read_text().split() == ["loss,step", "3.5,0", "2.5,1"]


def test_a_row_that_does_not_fit_is_written_whole_later(tmp_path: Path) -> None:
    rows = Rows(str(tmp_path), name="", version="")
    rows.log_metrics({"loss": 1.0}, 0)
    rows.save()
    path = tmp_path / "metrics.csv"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 2, hard))
        rows.log_metrics({"loss": 2.0}, 1)
        rows.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text().split() == ["loss,step", "1.0,0"]
    assert path in UNWRITTEN
    rows.save()
    assert path.read_text().split() == ["loss,step", "1.0,0", "2.0,1"]
    assert path not in UNWRITTEN


def test_damaged_rows_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"loss,step\n3.5,0\n2.\xa95,1\n1.5,x\n1.5\n1,2,3\n0.5,4\n")
    assert rows_of(path) == [{"loss": "3.5", "step": "0"}, {"loss": "0.5", "step": "4"}]
    assert f"{path}: 4 rows are damaged, and left out" in caplog.text


def test_a_file_with_a_damaged_header_is_moved_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"lo\xa9ss,step\n3.5,0\n")
    assert rows_of(path) == []
    assert "was moved to" in caplog.text
    assert (tmp_path / "metrics.csv.damaged").is_file()
    assert not path.exists()


@pytest.mark.parametrize(
    ("every", "otherwise", "found"),
    [(2, 0, [2, 4, 6]), (0, 0, []), (0, 3, [3, 6]), (2, 3, [2, 4, 6])],
)
def test_a_step_is_logged_or_looked_at_where_none_is(
    every: int, otherwise: int, found: list[int]
) -> None:
    trainer = SimpleNamespace(log_every_n_steps=every)
    assert [step for step in range(7) if is_logged(trainer, step, otherwise)] == found
