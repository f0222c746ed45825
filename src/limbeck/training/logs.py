"""The logs of a run, of which nothing is lost, and which cannot end the run."""

import csv
import io
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.apply_func import convert_tensors_to_scalars
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from limbeck.texts import MOST_ROWS, read_text
from limbeck.training.writing import outlived
from limbeck.whole import write_whole

log = logging.getLogger(__name__)

Row = dict[str, Any]


USUAL = 50  # steps, after which Lightning logs one


def is_logged(trainer: Any, step: int, otherwise: int = 0) -> bool:
    """Whether a trainer logs an optimizer step, which counts from 1.

    Args:
        trainer: The trainer, of which ``log_every_n_steps`` is 0 where it logs no step.
        step: The number of the step; 0 is none.
        otherwise: The number that takes the place of such a 0, for what is looked at whether or not
            it is logged.
    """
    every: int = trainer.log_every_n_steps or otherwise
    return every > 0 and step > 0 and step % every == 0


class RowFile(ExperimentWriter):
    """The file of a run's rows, which holds those before a step and what is logged from there on.

    Lightning's own deletes what an earlier process has written, and is torn by a full disk or a
    kill at the wrong moment.

    Args:
        log_dir: The folder of the file.
    """

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self.path = Path(self.metrics_file_path)
        self.since = 0  # the step from which on rows are logged here
        self._begun = False

    def _check_log_dir_exists(self) -> None:
        """Leave what is there, until something is to be written."""

    def save(self) -> None:
        """Write what was logged, if anything."""
        if self.metrics:
            self.write()

    def write(self) -> None:
        """Write what was logged; the first time, drop the rows that are logged again."""
        columns = sorted({*self.metrics_keys, *(name for row in self.metrics for name in row)})
        if self._begun and columns == self.metrics_keys and self.path.is_file():
            self._append()
        else:
            earlier = rows_of(self.path)
            if not self._begun:
                earlier = [row for row in earlier if int(row["step"]) < self.since]
            columns = sorted({*columns, *(name for row in earlier for name in row)})
            if columns:
                write_whole(self.path, _text(columns, [*earlier, *self.metrics], header=True))
        self.metrics_keys, self.metrics, self._begun = columns, [], True

    def _append(self) -> None:
        size = self.path.stat().st_size
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(_text(self.metrics_keys, self.metrics))
        except OSError:
            os.truncate(self.path, size)  # or what follows a torn row would be torn, too
            raise


def _text(columns: list[str], rows: list[Row], header: bool = False) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def rows_of(path: Path) -> list[Row]:
    """The rows of a file that are whole.

    A row that a kill or a full disk has cut off, at the end of the file, is left out. A warning
    tells of others that cannot be read. A file whose header is damaged is moved aside.

    Args:
        path: The file, which need not exist.

    Returns:
        The rows, each of which has a step.
    """
    if not path.is_file():
        return []
    text = read_text(path, MOST_ROWS, strict=False)
    lines = text[: text.rfind("\n") + 1].splitlines()
    try:
        reader = csv.DictReader(lines)
        rows = list(reader)
    except csv.Error:
        rows, reader = [], csv.DictReader([])
    columns = reader.fieldnames or []
    if lines and ("step" not in columns or any("\ufffd" in name for name in columns)):
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        log.warning("%s is damaged, and was moved to %s; a new one is begun.", path, aside)
        return []
    whole = [row for row in rows if _is_whole(row)]
    if len(whole) < len(rows):
        log.warning("%s: %d rows are damaged, and left out.", path, len(rows) - len(whole))
    return whole


def _is_whole(row: dict[Any, Any]) -> bool:
    values = row.values()
    if None in row or None in values or any("\ufffd" in value for value in values):
        return False  # too many fields, too few, or bytes that are no text
    return bool(row["step"].isdecimal())


class Rows(CSVLogger):
    """Lightning's CSV log, whose rows are kept where they cannot be written."""

    _ahead: tuple[int, set[str]] | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> RowFile:
        """The file."""
        if self._experiment is None:
            self._experiment = RowFile(self.log_dir)
        file: Any = self._experiment
        return file  # type: ignore[no-any-return]

    @property
    def is_used(self) -> bool:
        """Whether there is a file, or may be one."""
        return self._experiment is not None

    def log_ahead(self, trainer: L.Trainer, step: int) -> None:
        """Log a row before its checkpoint, after which Lightning would do it.

        A run that is killed between the two would lack the row for good.

        Args:
            trainer: The trainer, on every process: the means of an epoch are those of all.
            step: The step of the row.
        """
        row: Row = convert_tensors_to_scalars(dict(trainer._logger_connector.metrics["log"]))
        if row:
            row.setdefault("epoch", trainer.current_epoch)
            self.log_metrics(row, step)
            self._ahead = (step, set(row))

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log a row, unless that was done ahead."""
        ahead, self._ahead = self._ahead, None
        if ahead != (step, set(metrics)):
            super().log_metrics(metrics, step)

    def save(self) -> None:
        """Write what was logged, and keep it for the next time where that fails."""
        with outlived(Path(self.log_dir, "metrics.csv")):
            super().save()


class Events(TensorBoardLogger):
    """Lightning's TensorBoard log, which outlives a full disk."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Torch's writer of summaries."""
        if self._experiment is None:
            from limbeck.training.events import EventWriter  # TensorBoard takes half a second

            self._experiment = EventWriter(self.log_dir)
        return self._experiment

    def save(self) -> None:
        """Write the hyperparameters, which Lightning keeps beside the events."""
        with outlived(Path(self.log_dir, self.NAME_HPARAMS_FILE)):
            super().save()


def loggers(root: str, stated: Logger | Iterable[Logger] | bool | None) -> list[Logger]:
    """The loggers of a run: its own, beside which stand those that its recipe names.

    Args:
        root: The folder of the run.
        stated: What the recipe states as ``trainer.logger``: one logger, or several. None or True:
            it names none.

    Returns:
        The log of ``metrics.csv``, that of TensorBoard, and those that are stated.
    """
    rows = Rows(root, name="", version="")
    own: list[Logger] = [rows, Events(root, name="", version="tensorboard")]
    if isinstance(stated, bool) or stated is None:
        return own
    return [*own, *([stated] if isinstance(stated, Logger) else stated)]


def stated_loggers(trainer: L.Trainer) -> list[Logger]:
    """The loggers of a trainer that are not limbeck's own."""
    return [logger for logger in trainer.loggers if not isinstance(logger, Rows | Events)]


class EarlierRows(L.Callback):
    """Makes ``metrics.csv`` of a resumed run hold what was logged up to its checkpoint.

    What was logged after it is dropped when the first new row is written, or when the run ends
    without one. Until then the file is as it was, as the run may fail before its first step.

    Args:
        csv_log: The CSV log of the run.
    """

    def __init__(self, csv_log: Rows) -> None:
        self.csv_log = csv_log

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note from which step on rows are logged."""
        self.csv_log.experiment.since = checkpoint["global_step"]

    @rank_zero_only
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Settle what the file holds, unless nothing was logged, as in a dry run."""
        if self.csv_log.is_used:
            file = self.csv_log.experiment
            with outlived(file.path):
                file.write()
