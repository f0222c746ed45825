"""What a training run leaves: the plain student, and a summary of the run."""

import json
import logging
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities import rank_zero_only

from limbeck.data.augmentation import to_recipe
from limbeck.machine import device_name
from limbeck.models import save_student
from limbeck.report.table import shown_score
from limbeck.training.scoring import headline_of
from limbeck.training.writing import UNWRITTEN, outlived
from limbeck.whole import write_whole

log = logging.getLogger(__name__)

TEMPORARY = Path("temporary files")  # what messages call their folder, which may not exist


class TrainingTime(L.Callback):
    """Counts the seconds spent in training batches, as wall time and CPU time of this process.

    Evaluation is not counted, as comparisons at equal time are about training.
    """

    def __init__(self) -> None:
        self.wall = 0.0
        self.cpu = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        """Begin to count."""
        self._began = (time.perf_counter(), time.process_time())

    def on_train_batch_end(self, *_: Any) -> None:
        """Count one batch."""
        wall, cpu = self._began
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what belongs to training, but is done between batches."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu

    def state_dict(self) -> dict[str, Any]:
        """The seconds so far."""
        return {"wall": self.wall, "cpu": self.cpu}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.wall, self.cpu = state_dict["wall"], state_dict["cpu"]


class ExportStudent(L.Callback):
    """Writes the plain student and the summary of the run into the run's folder."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse a student that could not be exported before it is trained, on every process."""
        with outlived(TEMPORARY), TemporaryDirectory() as folder:
            export(pl_module, Path(folder))
        UNWRITTEN.pop(TEMPORARY, None)  # the run itself lacks nothing by that

    @rank_zero_only
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write ``student/`` and ``summary.json``."""
        module: Any = pl_module
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        folder = Path(trainer.default_root_dir) / "student"
        with outlived(folder):
            export(module, folder)
        write_summary(trainer, module)
        if folder in UNWRITTEN:
            keep_elsewhere(module, folder)
            return
        measured = module.scored_at == trainer.global_step
        log.info("student: %s  %s", folder, short(module.scores["student"]) if measured else "")


def keep_elsewhere(module: Any, folder: Path) -> None:
    """Keep a student that its folder has no room for among the temporary files, if there is room.

    Args:
        module: The ``DistillationModule`` that has trained it.
        folder: The folder that it could not be written to. Parts of files are removed there.
    """
    for part in folder.glob("*.part"):
        part.unlink(missing_ok=True)
    with outlived(TEMPORARY):
        elsewhere = mkdtemp(prefix="limbeck-student-")
        try:
            export(module, Path(elsewhere))
        except BaseException:
            shutil.rmtree(elsewhere)
            raise
        UNWRITTEN[folder] += f"; the student is in {elsewhere} instead, move it to a safe place"


def export(module: Any, folder: Path) -> None:
    """Save the student, with its classes and the augmentation that it was measured with.

    Args:
        module: The ``DistillationModule`` that has trained it.
        folder: The folder to write into.
    """
    augmentation = module.data.augmentation
    save_student(
        module.pair.student,
        folder,
        build=module.student_build,
        classes=module.data.classes,
        metadata={
            "task": module.data.task,
            "augmentation": None if augmentation is None else to_recipe(augmentation),
        },
    )


def write_summary(trainer: L.Trainer, module: Any) -> None:
    """Write ``summary.json``: scores of student and teacher, steps, and what training took.

    Args:
        trainer: The trainer of the run, in whose folder the file is written.
        module: Its ``DistillationModule``.
    """
    device = trainer.strategy.root_device
    timing = next(c for c in trainer.callbacks if isinstance(c, TrainingTime))  # type: ignore[attr-defined]
    summary = {
        "scores": module.scores,
        "headline": headline_of(module.metrics["student"]),
        "steps": module.pair.number,
        "training_seconds": {"wall": timing.wall, "cpu": timing.cpu},
        "device": device.type,
        "machine": device_name(device),
        "torch": torch.__version__,
        "peak_memory_mib": peak_memory(device),
    }
    path = Path(trainer.default_root_dir) / "summary.json"
    with outlived(path):
        write_whole(path, json.dumps(summary, indent=2) + "\n")


def peak_memory(device: torch.device) -> float:
    """The most memory that training took so far, in MiB: of a GPU, otherwise of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kB elsewhere


def short(scores: dict[str, float]) -> str:
    """The scores that are over all classes, in one line."""
    return "  ".join(
        f"{name} {shown_score(value)}" for name, value in scores.items() if "/" not in name
    )
