"""Files of detections, as the programs of PASCAL VOC, KITTI and WIDER FACE read them.

The published detectors write scores with three decimals. That makes some of them equal and changes
the order of their boxes, which average precision is about. Here they have eight decimals, which
keep all float32 numbers near 1 apart.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from itertools import chain
from operator import attrgetter
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import lightning.pytorch as L
from torch import Tensor, distributed

from limbeck.data import KITTI, WIDERFace
from limbeck.data.annotated import AnnotatedImages
from limbeck.names import escaped, file_names
from limbeck.texts import MOST_ROWS, read_text
from limbeck.training.writing import outlived

log = logging.getLogger(__name__)


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


class File(NamedTuple):
    """One file that is written.

    Attributes:
        folder: The folder in the folder of all files that it lies in; empty where it is that.
        name: The name of the file, which may hold anything that a class may be called.
        text: What stands in it.
    """

    folder: str
    name: str
    text: str


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
    stems = _image_names(dataset)
    for name in dataset.classes:
        of_class = [each for each in found if each.name == name]
        lines = (
            f"{stems[image]} {score:.8f} {x1 + 1:.1f} {y1 + 1:.1f} {x2:.1f} {y2:.1f}\n"
            for image, _, score, (x1, y1, x2, y2) in of_class
        )
        yield File("", f"comp4_det_test_{name}.txt", "".join(lines))


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
        yield File("", f"{image.stem}.txt", "".join(lines))


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
        text = f"{image.stem}\n{len(of_image)}\n{''.join(lines)}"
        yield File(image.parent.name, f"{image.stem}.txt", text)


class _Format(NamedTuple):
    """How files are written, and what the text of one that was written is like.

    Scores of eight decimals are limbeck's alone. Annotations have other columns.
    """

    write: Callable[[AnnotatedImages, Sequence[Found]], Iterator[File]]
    text: re.Pattern[str]


_VOC = _Format(voc_files, re.compile(r"(\S+ \d\.\d{8}( \S+){4}\n)*"))
_FORMATS: dict[type[AnnotatedImages], _Format] = {
    KITTI: _Format(kitti_files, re.compile(r"(\S+ -1 -1 -10( \S+){11} \d\.\d{8}\n)*")),
    WIDERFace: _Format(wider_face_files, re.compile(r".*\n\d+\n((\S+ ){4}\d\.\d{8}\n)*")),
}


class DetectionFiles(L.Callback):
    """Writes what the student finds in each validation, as the dataset's own program reads it.

    That is KITTI's program for :class:`limbeck.data.KITTI`, WIDER FACE's for
    :class:`limbeck.data.WIDERFace`, and PASCAL VOC's development kit for all others.

    Args:
        folder: The folder to write into, which is made where it is missing. Files of an earlier
            validation are replaced, and no others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: list[Found] = []
        self.written: set[Path] = set()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse a validation set without image files, and to replace what is no detections."""
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
        own = [form for kind, form in _FORMATS.items() if isinstance(dataset, kind)]
        self.format = own[0] if own else _VOC
        for path, _ in self._paths([]):
            if (
                path not in self.written
                and os.path.lexists(path)
                and not _holds(path, self.format.text)
            ):
                raise FileExistsError(
                    f"{path} is there, and holds no detections that limbeck has written: "
                    "--detections would replace it. Choose another folder."
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
        paths = self._paths(sorted(chain(*found), key=attrgetter("image")))
        _say_renamed({file.name: path.name for path, file in paths}, self.folder)
        training = trainer.state.fn == "fit"  # which a full disk is not to end
        with outlived(self.folder) if training else nullcontext():
            for path, file in paths:
                self.written.add(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(file.text, "utf-8", errors="backslashreplace")

    def _paths(self, found: Sequence[Found]) -> list[tuple[Path, File]]:
        """All files, each with the path that it is written to, another one on every disk."""
        files = list(self.format.write(self.dataset, found))
        folders = file_names({file.folder: file.folder for file in files if file.folder})
        names = file_names({file.name: file.name for file in files})
        return [(self.folder / folders.get(f.folder, "") / names[f.name], f) for f in files]


def _image_names(dataset: AnnotatedImages) -> dict[int, str]:
    """What each image is called in a line with columns, without spaces.

    That is its stem or, where images share one, the path from the folder that holds all images.
    """
    images = zip(dataset.images.image_ids.tolist(), dataset.images.paths(), strict=True)
    paths = {id_: path.absolute() for id_, path in images}
    root = os.path.commonpath([path.parent for path in paths.values()])
    names = {id_: path.stem for id_, path in paths.items()}
    if len(set(names.values())) < len(names):
        names = {id_: path.relative_to(root).as_posix() for id_, path in paths.items()}
    return {id_: escaped(name, " ") for id_, name in names.items()}


def _holds(path: Path, text: re.Pattern[str]) -> bool:
    """Whether a path is a file, and no link to one elsewhere, whose text is of this kind."""
    if path.is_symlink() or not path.is_file():
        return False
    with suppress(ValueError):  # a file that is so large is none of ours
        return text.fullmatch(read_text(path, MOST_ROWS, strict=False)) is not None
    return False


def _say_renamed(names: Mapping[str, str], folder: Path) -> None:
    """Log how many files are called otherwise than their classes or images would have it."""
    renamed = [name for name, written in names.items() if name != written]
    if renamed:
        log.warning(
            "%s: %d files have other names, as not every disk takes all characters, such as %s for "
            "%s",
            folder,
            len(renamed),
            names[renamed[0]],
            shorten(escaped(renamed[0]), 100),
        )


def _by_image(
    dataset: AnnotatedImages, found: Sequence[Found]
) -> Iterator[tuple[Path, list[Found]]]:
    """Each image file, with the boxes that were found on it."""
    boxes: dict[int, list[Found]] = {id_: [] for id_ in dataset.images.image_ids.tolist()}
    for each in found:
        boxes[each.image].append(each)
    yield from zip(dataset.images.paths(), boxes.values(), strict=True)
