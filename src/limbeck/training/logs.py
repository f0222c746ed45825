"""The logs of a run, of which nothing is lost, and which cannot end the run."""

import csv
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)


@contextmanager
def outlived(what: str) -> Iterator[None]:
    """Log an error where a file cannot be written, such as on a full disk, and let the run go on.

    Args:
        what: The name of the file, for the message.

    Yields:
        Nothing.
    """
    try:
        yield
    except OSError as error:
        log.error("%s could not be written (%s). Training goes on.", what, error)


class Rows(CSVLogger):
    """Lightning's CSV log, whose rows are kept where they cannot be written."""

    def save(self) -> None:
        """Write what was logged, and keep it for the next time where that fails."""
        with outlived("metrics.csv"):
            super().save()


class Events(TensorBoardLogger):
    """Lightning's TensorBoard log, which outlives a full disk."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log the metrics of a step."""
        with outlived("the TensorBoard log"):
            super().log_metrics(metrics, step)

    def save(self) -> None:
        """Write what was logged."""
        with outlived("the TensorBoard log"):
            super().save()

    def finalize(self, status: str) -> None:
        """Close the file."""
        with outlived("the TensorBoard log"):
            super().finalize(status)


class EarlierRows(L.Callback):
    """Keeps in ``metrics.csv`` what a resumed run has logged before, which Lightning deletes.

    Args:
        csv_log: The CSV log of the run, to which nothing has been written yet.
    """

    def __init__(self, csv_log: CSVLogger) -> None:
        self.csv_log = csv_log
        self.path = Path(csv_log.log_dir, "metrics.csv")
        text = self.path.read_text() if self.path.is_file() else ""
        # A row that was cut off by a full disk lacks its last fields.
        self.rows = [row for row in csv.DictReader(text.splitlines()) if None not in row.values()]

    @rank_zero_only
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Put all rows back at once, as the run may fail before its first step, or have none."""
        if stage == "fit":
            self._put_back(self.rows)

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Drop the rows after the checkpoint, which are about to be logged again."""
        self._put_back([row for row in self.rows if int(row["step"]) < trainer.global_step])

    def _put_back(self, rows: list[dict[str, str]]) -> None:
        if not self.rows:
            return
        self.csv_log.experiment.metrics_keys = list(self.rows[0])
        partial = self.path.with_name(f"{self.path.name}.part")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(self.path)
