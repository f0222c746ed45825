"""Detection datasets of image files with boxes: what COCO and PASCAL VOC have in common."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision import tv_tensors

from limbeck.data.base import Target, Task, VisionDataset, open_image, to_rgb


@dataclass(frozen=True, slots=True)
class Objects:
    """The N annotated objects of one image.

    Attributes:
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels, exclusive.
        labels: int64 (N,), counting from 1.
        area: float32 (N,), in pixels.
        iscrowd: int64 (N,), 1 for a region of many objects.
        difficult: bool (N,), or None where the layout has no such thing.
    """

    boxes: Tensor
    labels: Tensor
    area: Tensor
    iscrowd: Tensor
    difficult: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def target(self, image_id: int, canvas_size: tuple[int, int]) -> dict[str, Tensor]:
        """A torchvision target, its tensors copied: a worker that sends them would keep them."""
        boxes = tv_tensors.BoundingBoxes(self.boxes.clone(), format="XYXY", canvas_size=canvas_size)
        target: dict[str, Tensor] = {
            "boxes": boxes,
            "labels": self.labels.clone(),
            "image_id": torch.tensor(image_id),
            "area": self.area.clone(),
            "iscrowd": self.iscrowd.clone(),
        }
        if self.difficult is not None:
            target["difficult"] = self.difficult.clone()
        return target


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One image file, its objects, and its (height, width) if the annotation states it."""

    path: Path
    image_id: int
    size: tuple[int, int] | None
    objects: Objects


class AnnotatedImages(VisionDataset):
    """A detection dataset over image files; a layout's class fills in the images.

    Boxes refer to the pixels as they are stored: an EXIF orientation is not applied.
    """

    task: Task = "detection"

    def __init__(self, classes: Sequence[str], images: Iterable[AnnotatedImage]) -> None:
        self.classes = tuple(classes)
        self.images = tuple(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        """The image and its target.

        Raises:
            OSError: the file is missing or damaged.
            ValueError: the file has another size than its annotation says.
        """
        record = self.images[index]
        with open_image(record.path) as file:
            image = to_rgb(file)
        height, width = image.shape[-2:]
        if record.size not in (None, (height, width)):
            raise ValueError(
                f"{record.path} has height and width {(height, width)}, its annotation says "
                f"{record.size}: its boxes do not fit; correct one of the two"
            )
        return image, record.objects.target(record.image_id, (height, width))

    def image_size(self, index: int) -> tuple[int, int]:
        """``(height, width)``, as annotated, or else from the header of the file."""
        record = self.images[index]
        if record.size is not None:
            return record.size
        with open_image(record.path) as file:
            return file.height, file.width
