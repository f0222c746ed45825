"""The file of what a run's models predict on every validation image."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor

from limbeck.metrics.predictions import Predictions
from limbeck.training.writing import outlived
from limbeck.whole import written_whole


class PredictionFiles(L.Callback):
    """Writes what student and teacher predict on every image, for statistics of one's own.

    The files are ``student.safetensors`` and, where there is a teacher, ``teacher.safetensors``, as
    :class:`limbeck.metrics.predictions.Predictions` reads them. Files of an earlier validation are
    replaced.

    Args:
        folder: The folder of the files, which is made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: dict[str, list[tuple[Tensor, Any, Any]]] = {}

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse several processes, each of which would see a part of the images."""
        self.kept = {}
        if trainer.world_size > 1:
            raise ValueError(
                f"--predictions is given to {trainer.world_size} processes; expected one, which "
                "sees all images. Set --trainer.devices 1 and --trainer.num_nodes 1."
            )

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what each model predicts on a batch, on the CPU."""
        images, targets = batch
        sizes = torch.tensor([image.shape[-2:] for image in images])
        for side, found in outputs.items():
            rows = (_on_cpu(found), _on_cpu(targets))
            self.kept.setdefault(side, []).extend(zip(sizes, *rows, strict=True))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write a file for each model."""
        data: Any = pl_module.data
        training = trainer.state.fn == "fit"  # which a full disk is not to end
        for side, rows in self.kept.items():
            if side == "student" and trainer.sanity_checking:
                continue  # two batches, of a student that has learnt nothing yet
            sizes, found, truth = zip(*rows, strict=True)
            predictions = Predictions(data.task, data.classes, torch.stack(sizes), found, truth)
            path = self.folder / f"{side}.safetensors"
            # A process that a killed comparison has left may still write the same.
            with outlived(path) if training else nullcontext(), written_whole(path) as partial:
                predictions.save(partial)


def _on_cpu(items: Any) -> Sequence[Any]:
    """A batch as a list with what each image has, in float32 where it is a fraction."""
    if isinstance(items, Tensor):
        return list((items.float() if items.is_floating_point() else items).cpu())
    # A user's own dataset may name its images by texts.
    return [{n: v.cpu() for n, v in item.items() if isinstance(v, Tensor)} for item in items]
