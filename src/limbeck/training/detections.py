"""PASCAL VOC's detection files, for its development kit and whatever else reads them."""

from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from torch import Tensor, distributed

from limbeck.data.annotated import AnnotatedImages

Row = tuple[int, str, str]  # image, class, line of the class's file


class DetectionFiles(L.Callback):
    """Writes what each validation finds with the student, as VOC's development kit reads it.

    ``comp4_det_test_<class>.txt`` has a line a box: name of the image, score, x1 y1 x2 y2, which
    count pixels inclusively from 1 and have one decimal. The published Faster R-CNNs write three
    decimals of the score. Boxes that fall together so have another order, and average precision is
    about order alone: here there are eight, which keep all float32 near 1 apart.

    Args:
        folder: made where it is missing; files of an earlier validation are replaced.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[Row] = []

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before the first batch: only image files have names to write.

        Raises:
            ValueError: the validation set is of another kind.
        """
        module: Any = pl_module
        dataset = module.data.datasets["validation"]
        if not isinstance(dataset, AnnotatedImages):
            raise ValueError(
                f"detections are written for a validation set of annotated image files; data.val "
                f"is {type(dataset).__name__}. Give VOC or COCO, or leave --detections out."
            )
        self.names = {image.image_id: image.path.stem for image in dataset.images}
        self.classes = dataset.classes
        self.rows = []

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the student's boxes."""
        if not trainer.sanity_checking:  # that pass is the teacher's
            for target, found in zip(batch[1], outputs["student"], strict=True):
                self.rows += self._rows(int(target["image_id"]), found)

    def _rows(self, image: int, found: dict[str, Tensor]) -> list[Row]:
        boxes = found["boxes"].float() + found["boxes"].new_tensor([1.0, 1.0, 0.0, 0.0])
        columns = zip(
            found["labels"].tolist(), found["scores"].tolist(), boxes.tolist(), strict=True
        )
        return [
            (image, self.classes[label - 1], " ".join([f"{score:.8f}", *(f"{x:.1f}" for x in box)]))
            for label, score, box in columns
            if label > 0  # the slot that torchvision's detectors leave unused, and may yet predict
        ]

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A file a class, also where nothing was found, with the images of all processes."""
        if trainer.sanity_checking:
            return
        rows = [self.rows]
        if trainer.world_size > 1:
            rows = [[] for _ in range(trainer.world_size)]
            distributed.all_gather_object(rows, self.rows)
        if not trainer.is_global_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        by_class: dict[str, list[str]] = {name: [] for name in self.classes}
        for image, name, line in sorted(chain(*rows), key=itemgetter(0)):
            by_class[name].append(f"{self.names[image]} {line}\n")
        for name, lines in by_class.items():
            (self.folder / f"comp4_det_test_{name}.txt").write_text("".join(lines), "utf-8")
