"""The samples that a run skipped because they could not be read."""

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor

from limbeck.data.base import BadSampleError, VisionDataset
from limbeck.names import escaped
from limbeck.texts import read_text
from limbeck.training.data import DataModule
from limbeck.training.writing import outlived
from limbeck.whole import write_whole

log = logging.getLogger(__name__)


class SkippedSamples(L.Callback):
    """Logs how many samples were skipped, and lists them in ``skipped.txt`` of the run's folder.

    A ``DataModule`` skips them with ``on_bad_sample="skip"``; with "error" this callback has
    nothing to do. It looks after each validation and at the end of the fit. A resumed run adds to
    the list.
    """

    def __init__(self) -> None:
        self._known: set[tuple[str, int]] = set()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the samples that were skipped since it looked last."""
        self._report(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the samples that were skipped in the last epoch."""
        self._report(trainer)

    def _report(self, trainer: L.Trainer) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, DataModule):
            return
        for name, flags in data.bad_samples.items():
            indices = _over_all_processes(flags, trainer).nonzero()[:, 0].tolist()
            new = [index for index in indices if (name, index) not in self._known]
            self._known |= {(name, index) for index in new}
            if new and trainer.is_global_zero:
                path = Path(trainer.default_root_dir) / "skipped.txt"
                reasons = [f"{name}: {_reason(data.datasets[name], index)}" for index in new]
                with outlived(path):
                    add_lines(path, reasons)
                log.warning(
                    "%d samples of the %s set were skipped, %d of %d so far; they are listed in "
                    "%s, such as %s",
                    len(new),
                    name,
                    len(indices),
                    len(flags),
                    path,
                    reasons[0],
                )


def _over_all_processes(flags: Tensor, trainer: L.Trainer) -> Tensor:
    """The flags that any process has set, bool (N,) on the CPU."""
    here = flags.to(trainer.strategy.root_device, torch.uint8, copy=True)
    everywhere: Tensor = trainer.strategy.reduce(here, reduce_op="max")
    return everywhere.cpu().bool()


def _reason(dataset: VisionDataset, index: int) -> str:
    try:
        dataset[index]
    except BadSampleError as error:
        return escaped(str(error))
    return f"image {index} (counting from 0) could not be read once, but can be now"


def add_lines(path: Path, lines: list[str]) -> None:
    """Append lines to a file, but none that is there already.

    Args:
        path: The file, which is made where it is missing.
        lines: The lines to append.
    """
    there = read_text(path, strict=False).splitlines() if path.is_file() else []
    write_whole(path, "\n".join(dict.fromkeys([*there, *lines])) + "\n")
