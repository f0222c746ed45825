"""What the datasets of image files with boxes share: COCO, VOC, KITTI and WIDER FACE."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from torchvision import tv_tensors

from limbeck.data.base import (
    BadSampleError,
    Target,
    Task,
    VisionDataset,
    open_image,
    to_rgb,
)
from limbeck.data.orientation import Frame, is_sideways, is_unsettled, turns, upright

log = logging.getLogger(__name__)

BOUND = 1e12  # of any coordinate or area; NaN and infinity are beyond it as well
ONE_PIXEL = 0.999  # as a difference of two float32 coordinates comes out


@dataclass(frozen=True, slots=True)
class Objects:
    """The N annotated objects of one image.

    The fields are those of a target of detection, which :class:`limbeck.data.VisionDataset`
    describes.

    Attributes:
        boxes: The boxes, float32 (N, 4).
        labels: The labels, int64 (N,), which count from 1.
        area: The areas in pixels, float32 (N,).
        iscrowd: Which rows are regions that an evaluator ignores, int64 (N,).
        attributes: Whatever else the layout says of each object, by the names in a target. Each
            value has N rows, such as VOC's ``difficult``, bool (N,).
    """

    boxes: Tensor
    labels: Tensor
    area: Tensor
    iscrowd: Tensor
    attributes: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def target(self, image_id: int, canvas_size: tuple[int, int]) -> dict[str, Tensor]:
        """The target of an image.

        Its tensors are copies, since a loading worker that sends the originals would keep them.

        Args:
            image_id: The number of the image in its dataset.
            canvas_size: The (height, width) of the image in pixels.

        Returns:
            The target, as :class:`limbeck.data.VisionDataset` describes it.
        """
        boxes = tv_tensors.BoundingBoxes(self.boxes.clone(), format="XYXY", canvas_size=canvas_size)
        return {
            "boxes": boxes,
            "labels": self.labels.clone(),
            "image_id": torch.tensor(image_id),
            "area": self.area.clone(),
            "iscrowd": self.iscrowd.clone(),
            **{name: rows.clone() for name, rows in self.attributes.items()},
        }

    def within(self, size: tuple[int, int]) -> Tensor:
        """The boxes (N, 4), clipped to an image of the given (height, width) in pixels."""
        height, width = size
        return self.boxes.clamp(min=0).minimum(torch.tensor([width, height] * 2))

    def learnable(self, size: tuple[int, int] | None) -> "Objects":
        """The objects to learn from: without crowds, and with boxes clipped to the image.

        Objects without area are left out as well, and boxes with a side of less than one pixel.

        Args:
            size: The (height, width) of the image in pixels. None: it is not known, and nothing is
                clipped.

        Returns:
            The objects that remain, in their order.
        """
        boxes = self.boxes if size is None else self.within(size)
        sides = boxes[:, 2:] - boxes[:, :2]
        area = self.area.minimum(sides.prod(dim=1))
        keep = (sides >= ONE_PIXEL).all(dim=1) & (area > 0) & (self.iscrowd == 0)
        return Objects(
            boxes[keep],
            self.labels[keep],
            area[keep],
            self.iscrowd[keep],
            {name: rows[keep] for name, rows in self.attributes.items()},
        )


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One image file with its objects.

    Attributes:
        path: The image file.
        image_id: The number of the image in its dataset.
        size: The (height, width) in pixels that the annotation states. None: it states none.
        objects: The annotated objects.
    """

    path: Path
    image_id: int
    size: tuple[int, int] | None
    objects: Objects


class AnnotatedImages(VisionDataset):
    """A detection dataset of image files, which the class of each layout finds.

    Where an image has an EXIF orientation, its boxes are of the pixels as they are stored or as
    they are seen, turned upright. The size that the annotation states decides which, where it is
    that of one of the two alone. Otherwise ``boxes_of`` says it: for half turns and mirrored
    images, square ones, and where no size is stated.

    Args:
        classes: The names of the classes, in the order of the labels.
        images: All images.
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

    Raises:
        ValueError: There is no image, or none is left, or two classes have one name.
    """

    task: Task = "detection"

    def __init__(
        self,
        classes: Sequence[str],
        images: Sequence[AnnotatedImage],
        *,
        source: Path,
        training: bool = False,
        keep_images_without_boxes: bool = False,
        boxes_of: Frame | None = None,
    ) -> None:
        if boxes_of not in (None, "stored", "upright"):
            raise ValueError(f"boxes_of is {boxes_of!r}; expected 'stored', 'upright' or None")
        refuse_bad_classes(classes, source)
        if not images:
            raise ValueError(f"{source} lists no image; expected at least one: add some")
        _warn_of_boxes_outside(images, source, training)
        kept = images
        if training:
            # Where no size is stated, boxes wait to be clipped until the image is read.
            kept = [replace(one, objects=one.objects.learnable(one.size)) for one in images]
            kept = [image for image in kept if len(image.objects) or keep_images_without_boxes]
        if not kept:
            raise ValueError(
                f"{source}: none of the {len(images)} images has an object to learn from; expected "
                "one box at least. Check the annotations, or set keep_images_without_boxes"
            )
        self.classes = tuple(classes)
        self.images = tuple(kept)
        self.training = training
        self.boxes_of: Frame = boxes_of or "stored"
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
        """The (height, width) of an image, as annotated or else from the header of its file."""
        record = self.images[index]
        if record.size is not None:
            return record.size
        with open_image(record.path) as file:
            swapped = self.boxes_of == "upright" and is_sideways(file)
            return (file.width, file.height) if swapped else (file.height, file.width)


def _warn_of_boxes_outside(images: Sequence[AnnotatedImage], source: Path, training: bool) -> None:
    """Log how many boxes reach more than a pixel beyond their images; a pixel is rounding."""
    beyond, outside, first = 0, 0, None
    for image in images:
        if image.size is None or not len(image.objects):
            continue
        clipped = image.objects.within(image.size)
        reaching = ((image.objects.boxes - clipped).abs() > 1).any(dim=1)
        if reaching.any():
            first = first or image
            beyond += int(reaching.sum())
            outside += int((clipped[reaching, 2:] <= clipped[reaching, :2]).any(dim=1).sum())
    if first is not None:
        log.warning(
            "%s: %d boxes reach beyond their images, %d of them lie outside altogether; the first "
            "is on %s, of height and width %s. %s. Are these coordinates pixels of these images?",
            source,
            beyond,
            outside,
            first.path.name,
            first.size,
            "They are clipped, those outside left out" if training else "They are evaluated so",
        )


def _warn_of_orientations(images: Sequence[AnnotatedImage], source: Path) -> None:
    """Log how many images have an EXIF orientation without a size that says what boxes are of."""
    unsettled = [image for image in images if is_unsettled(image.path, image.size)]
    if unsettled:
        log.warning(
            "%s: %d of %d images have an EXIF orientation that their size does not settle, such as "
            "%s; their boxes are taken as of the stored pixels. Say boxes_of: upright if they were "
            "drawn on the pictures as they are seen, as most annotation tools show them, and "
            "boxes_of: stored if not. `limbeck predict` sees pictures upright.",
            source,
            len(unsettled),
            len(images),
            unsettled[0].path.name,
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
