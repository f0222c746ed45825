"""What the datasets of image files with boxes share: COCO, VOC, YOLO, KITTI and WIDER FACE."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torchvision import tv_tensors

from limbeck.data.base import (
    BadSampleError,
    Target,
    Task,
    VisionDataset,
    open_image,
    to_rgb,
)
from limbeck.data.orientation import BoxesOf, is_unsettled, seen_size, turns, upright
from limbeck.data.table import AnnotatedImage, ImageTable

log = logging.getLogger(__name__)

BOUND = 1e12  # of any coordinate or area; NaN and infinity are beyond it as well


class AnnotatedImages(VisionDataset):
    """A detection dataset of image files, which the class of each layout finds.

    Where an image has an EXIF orientation, its boxes are of the pixels as they are stored or as
    they are seen, turned upright. The size that the annotation states decides which, where it is
    that of one of the two alone. Otherwise ``boxes_of`` says it: for half turns and mirrored
    images, square ones, and where no size is stated.

    Args:
        classes: The names of the classes, in the order of the labels.
        images: All images: a table of them, or one by one.
        source: The file that lists the images, for error messages.
        training: Whether to clip boxes to their images and to leave out what cannot be learnt from:
            crowds, boxes with a side of less than one pixel, objects without area, and images
            without objects. An evaluator counts on all of these as they are.
        keep_images_without_boxes: Whether ``training`` keeps images without objects, as examples
            of background.
        boxes_of: The pixels that boxes are of where the size does not decide, "stored" or
            "upright", as most annotation tools show them. Default (None): the stored ones, and the
            number of such images is logged.

    Attributes:
        task: The task, which is ``"detection"``.
        images: The images with the objects that targets have.
        unread: What the layout may say beside what is read, in words; empty where that is nothing.

    Raises:
        ValueError: There is no image, or none is left, or two classes have one name.
    """

    task: Task = "detection"
    unread: ClassVar[str] = ""

    def __init__(
        self,
        classes: Sequence[str],
        images: ImageTable | Sequence[AnnotatedImage],
        *,
        source: Path,
        training: bool = False,
        keep_images_without_boxes: bool = False,
        boxes_of: BoxesOf | None = None,
    ) -> None:
        if boxes_of not in (None, "stored", "upright"):
            raise ValueError(f"boxes_of is {boxes_of!r}; expected 'stored', 'upright' or None")
        refuse_bad_classes(classes, source)
        if not len(images):
            raise ValueError(f"{source} lists no image; expected at least one: add some")
        table = images if isinstance(images, ImageTable) else ImageTable.joined(images)
        _warn_of_boxes_outside(table, source, training)
        kept = table
        if training:
            # Where no size is stated, boxes wait to be clipped until the image is read.
            kept = table.learnable(keep_images_without_objects=keep_images_without_boxes)
        if not len(kept):
            raise ValueError(
                f"{source}: none of the {len(table)} images has an object to learn from; expected "
                "one box at least. Check the annotations, or set keep_images_without_boxes"
            )
        self.classes = tuple(classes)
        self.images = kept
        self.training = training
        self.boxes_of: BoxesOf = boxes_of or "stored"
        self._sizes = kept.sizes.clone()  # with those of files that were looked into
        if boxes_of is None:
            _warn_of_orientations(kept, source)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        """Read one image and its target.

        Args:
            index: The position in the dataset.

        Returns:
            The image and its target, as :class:`limbeck.data.VisionDataset` describes them.

        Raises:
            BadSampleError: The file is missing or damaged, or has another size than its annotation
                says.
        """
        record = self.images[index]
        with open_image(record.path, record.size) as file:
            turned = turns(file, record.size, self.boxes_of)
            image = to_rgb(upright(file) if turned else file)
        height, width = image.shape[-2:]
        if record.size not in (None, (height, width)):
            raise BadSampleError(
                f"{record.path} has height and width {(height, width)}, its annotation says "
                f"{record.size}: its boxes do not fit; correct one of the two"
            )
        objects = record.objects
        if self.training and record.size is None:
            objects = objects.learnable((height, width))
        return image, objects.target(record.image_id, (height, width))

    def image_size(self, index: int) -> tuple[int, int]:
        """The (height, width) of an image, as annotated or else from the header of its file.

        A header is read when it is first asked for, and then kept.
        """
        height, width = self._sizes[index].tolist()
        if not height:
            height, width = self._seen_size(self.images[index].path)
            self._sizes[index] = torch.tensor([height, width])
        return height, width

    def _seen_size(self, path: Path) -> tuple[int, int]:
        if self.boxes_of == "upright":
            return seen_size(path)
        with open_image(path) as file:
            return file.height, file.width


def _warn_of_boxes_outside(table: ImageTable, source: Path, training: bool) -> None:
    """Log how many boxes reach more than a pixel beyond their images; a pixel is rounding."""
    boxes = table.objects.boxes
    clipped = table.objects.within(table.sizes_of_objects())
    reaching = ((boxes - clipped).abs() > 1).any(dim=1)
    if not reaching.any():
        return
    first = table.image_of(int(reaching.nonzero()[0]))
    log.warning(
        "%s: %d boxes reach beyond their images, %d of them lie outside altogether; the first "
        "is on %s, of height and width %s. %s. Are these coordinates pixels of these images?",
        source,
        int(reaching.sum()),
        int((clipped[reaching, 2:] <= clipped[reaching, :2]).any(dim=1).sum()),
        table.path(first).name,
        table.size(first),
        "They are clipped, those outside left out" if training else "They are evaluated so",
    )


def _warn_of_orientations(table: ImageTable, source: Path) -> None:
    """Log how many images have an EXIF orientation without a size that says what boxes are of."""
    sizes = ((height, width) if height else None for height, width in table.sizes.tolist())
    looked_at = zip(table.paths(), sizes, strict=True)
    unsettled = [path for path, size in looked_at if is_unsettled(path, size)]
    if unsettled:
        log.warning(
            "%s: %d of %d images have an EXIF orientation that their size does not settle, such as "
            "%s; their boxes are taken as of the stored pixels. Say boxes_of: upright if they were "
            "drawn on the pictures as they are seen, as most annotation tools show them, and "
            "boxes_of: stored if not. `limbeck predict` sees pictures upright.",
            source,
            len(unsettled),
            len(table),
            unsettled[0].name,
        )


def refuse_bad_classes(classes: Sequence[str], source: Path | str) -> None:
    """Refuse classes that are none, or of which several have one name.

    Args:
        classes: The names of the classes.
        source: The file or the argument that states them.

    Raises:
        ValueError: There are no classes, or a name comes twice.
    """
    if not classes:
        raise ValueError(f"{source} has no classes; expected one at least. Add it.")
    twice = sorted(name for name, count in Counter(classes).items() if count > 1)
    if twice:
        raise ValueError(
            f"{source} has several classes of the name {', '.join(twice)}; expected a name of its "
            "own for each. Rename or remove all but one."
        )
