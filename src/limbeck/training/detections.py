"""Files of detections, as the programs of PASCAL VOC, KITTI and WIDER FACE read them.

The published detectors write scores with three decimals. That makes some of them equal and changes
the order of their boxes, which average precision is about. Here they have eight decimals, which
keep all float32 numbers near 1 apart.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as L
from torch import Tensor, distributed

from limbeck.data import KITTI, WIDERFace
from limbeck.data.annotated import AnnotatedImages
from limbeck.training.writing import outlived


class Found(NamedTuple):
    """One box that was found.

    Attributes:
        image: The ``image_id`` of its image.
        name: The name of its class.
        score: Its score.
        box: Its x1, y1, x2, y2 in pixels of the image, exclusive.
    """

    image: int
    name: str
    score: float
    box: tuple[float, float, float, float]


File = tuple[str, str]  # its name in the folder, and its text


def voc_files(dataset: AnnotatedImages, found: Sequence[Found]) -> Iterator[File]:
    """Write as PASCAL VOC's development kit reads.

    There is a file ``comp4_det_test_<class>.txt`` for each class, also where nothing was found. It
    has a line for each box: the name of the image, the score, and x1, y1, x2, y2 with one decimal,
    which count pixels from 1 and are inclusive.

    Args:
        dataset: The images.
        found: The boxes on them, image by image.

    Yields:
        The name and the text of each file.
    """
    stems = {image.image_id: image.path.stem for image in dataset.images}
    for name in dataset.classes:
        of_class = [each for each in found if each.name == name]
        lines = (
            f"{stems[image]} {score:.8f} {x1 + 1:.1f} {y1 + 1:.1f} {x2:.1f} {y2:.1f}\n"
            for image, _, score, (x1, y1, x2, y2) in of_class
        )
        yield f"comp4_det_test_{name}.txt", "".join(lines)


def kitti_files(dataset: AnnotatedImages, found: Sequence[Found]) -> Iterator[File]:
    """Write as KITTI's program reads.

    There is a file ``<frame>.txt`` for each image, also where nothing was found. It has a line for
    each box: the class, x1, y1, x2, y2 with two decimals and the score, among what a 2D detector
    does not know.

    Args:
        dataset: The images.
        found: The boxes on them, image by image.

    Yields:
        The name and the text of each file.
    """
    for image, of_image in _by_image(dataset, found):
        lines = (
            f"{name} -1 -1 -10 {x1:.2f} {y1:.2f} {x2:.2f} {y2:.2f} "
            f"-1 -1 -1 -1000 -1000 -1000 -10 {score:.8f}\n"
            for _, name, score, (x1, y1, x2, y2) in of_image
        )
        yield f"{image.stem}.txt", "".join(lines)


def wider_face_files(dataset: AnnotatedImages, found: Sequence[Found]) -> Iterator[File]:
    """Write as WIDER FACE's program reads.

    There is a file ``<event>/<image>.txt`` for each image, with its name, the number of its boxes,
    and a line for each box: x, y, width and height with two decimals, and the score. The highest
    score comes first.

    Args:
        dataset: The images.
        found: The boxes on them, image by image.

    Yields:
        The name and the text of each file.
    """
    for image, of_image in _by_image(dataset, found):
        lines = (
            f"{x1:.2f} {y1:.2f} {x2 - x1:.2f} {y2 - y1:.2f} {score:.8f}\n"
            for _, _, score, (x1, y1, x2, y2) in sorted(of_image, key=attrgetter("score"))[::-1]
        )
        yield (
            f"{image.parent.name}/{image.stem}.txt",
            f"{image.stem}\n{len(of_image)}\n{''.join(lines)}",
        )


_Writer = Callable[[AnnotatedImages, Sequence[Found]], Iterator[File]]
_WRITERS: dict[type[AnnotatedImages], _Writer] = {
    KITTI: kitti_files,
    WIDERFace: wider_face_files,
}


class DetectionFiles(L.Callback):
    """Writes what the student finds in each validation, as the dataset's own program reads it.

    That is KITTI's program for :class:`limbeck.data.KITTI`, WIDER FACE's for
    :class:`limbeck.data.WIDERFace`, and PASCAL VOC's development kit for all others.

    Args:
        folder: The folder to write into, which is made where it is missing. Files of an earlier
            validation are replaced.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: list[Found] = []

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse a validation set that has no image files, whose names are to be written."""
        module: Any = pl_module
        dataset = module.data.datasets["validation"]
        if not isinstance(dataset, AnnotatedImages):
            raise ValueError(
                f"detections are written for a validation set of annotated image files; data.val "
                f"is {type(dataset).__name__}. Give VOC, COCO, KITTI or WIDERFace, or leave "
                "--detections out."
            )
        self.dataset = dataset
        self.found = []

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the boxes that the student found."""
        if not trainer.sanity_checking:  # that pass is the teacher's
            for target, found in zip(batch[1], outputs["student"], strict=True):
                self.found += self._rows(int(target["image_id"]), found)

    def _rows(self, image: int, found: dict[str, Tensor]) -> list[Found]:
        columns = (found[name].tolist() for name in ("labels", "scores", "boxes"))
        return [
            Found(image, self.dataset.classes[label - 1], score, tuple(box))
            for label, score, box in zip(*columns, strict=True)
            if label > 0  # the slot that torchvision's detectors leave unused, and may yet predict
        ]

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write all files, with the images of all processes."""
        if trainer.sanity_checking:
            return
        found = [self.found]
        if trainer.world_size > 1:
            found = [[] for _ in range(trainer.world_size)]
            distributed.all_gather_object(found, self.found)
        if not trainer.is_global_zero:
            return
        own = [write for kind, write in _WRITERS.items() if isinstance(self.dataset, kind)]
        write = own[0] if own else voc_files
        training = trainer.state.fn == "fit"  # which a full disk is not to end
        with outlived(self.folder) if training else nullcontext():
            for name, text in write(self.dataset, sorted(chain(*found), key=attrgetter("image"))):
                path = self.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, "utf-8")


def _by_image(
    dataset: AnnotatedImages, found: Sequence[Found]
) -> Iterator[tuple[Path, list[Found]]]:
    """Each image file, with the boxes that were found on it."""
    boxes: dict[int, list[Found]] = {image.image_id: [] for image in dataset.images}
    for each in found:
        boxes[each.image].append(each)
    for image in dataset.images:
        yield image.path, boxes[image.image_id]
