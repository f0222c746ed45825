"""The images of a dataset with their objects, in a few tensors.

A Python object has a count of its references, which a loading worker changes wherever it looks at
one: each worker so copies the memory that it began with. Tensors are read and not written, and
where workers are not forked, torch puts them into memory that all of them share.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import index as as_index
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

ONE_PIXEL = 0.999  # as a difference of two float32 coordinates comes out


@dataclass(frozen=True, slots=True)
class Objects:
    """N annotated objects, of one image or of many.

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

    def rows(self, which: slice | Tensor) -> "Objects":
        """Some of the objects: a slice of them, those of a mask (N,), or those of indices."""
        return Objects(
            self.boxes[which],
            self.labels[which],
            self.area[which],
            self.iscrowd[which],
            {name: rows[which] for name, rows in self.attributes.items()},
        )

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

    def within(self, size: tuple[int, int] | Tensor) -> Tensor:
        """The boxes, clipped to their images.

        Args:
            size: The (height, width) in pixels of the one image, or of the image of each object,
                int64 (N, 2). A box whose image has a height of 0 there stays as it is.

        Returns:
            The boxes, (N, 4).
        """
        sizes = torch.as_tensor(size)
        limits = sizes.to(self.boxes.dtype).flip(-1).tile(2)
        clipped = self.boxes.clamp(min=0).minimum(limits)
        return torch.where(sizes[..., :1] > 0, clipped, self.boxes)

    def clipped(self, size: tuple[int, int] | Tensor | None) -> "Objects":
        """The objects with boxes clipped to their images, and no area above that of its box.

        Args:
            size: The sizes, as :meth:`within` takes them. None: they are not known, and no box is
                clipped.

        Returns:
            All objects, in their order.
        """
        boxes = self.boxes if size is None else self.within(size)
        sides = boxes[:, 2:] - boxes[:, :2]
        return replace(self, boxes=boxes, area=self.area.minimum(sides.prod(dim=1)))

    def can_be_learnt(self) -> Tensor:
        """Which are no crowds, have an area, and sides of a pixel or more; bool (N,)."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        return (sides >= ONE_PIXEL).all(dim=1) & (self.area > 0) & (self.iscrowd == 0)

    def learnable(self, size: tuple[int, int] | None) -> "Objects":
        """The objects of one image to learn from: without crowds, and with boxes clipped to it.

        Objects without area are left out as well, and boxes with a side of less than one pixel.

        Args:
            size: The (height, width) of the image in pixels. None: it is not known, and nothing is
                clipped.

        Returns:
            The objects that remain, in their order.
        """
        clipped = self.clipped(size)
        return clipped.rows(clipped.can_be_learnt())


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


@dataclass(frozen=True, slots=True)
class Texts:
    """Many short texts in one tensor.

    Attributes:
        content: All texts in UTF-8, one after the other, uint8 (B,).
        ends: Where each of them ends, int64 (N,).
    """

    content: Tensor
    ends: Tensor

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        """Put texts together; they may hold what the names of files do."""
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        lengths = torch.tensor([len(text) for text in encoded], dtype=torch.int64)
        content = torch.from_numpy(np.frombuffer(bytearray(b"".join(encoded)), np.uint8))
        return cls(content, lengths.cumsum(0))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        start = int(self.ends[index - 1]) if index else 0
        return self._between(start, int(self.ends[index]))

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self.ends.tolist():
            yield self._between(start, end)
            start = end

    def _between(self, start: int, end: int) -> str:
        return self.content[start:end].numpy().tobytes().decode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class ImageTable:
    """All images of a dataset with all their objects.

    Attributes:
        folder: The folder that holds the image files.
        names: The path of each of the N image files within the folder.
        image_ids: The number of each image in its dataset, int64 (N,).
        sizes: The (height, width) of each image that the annotation states, int64 (N, 2); where it
            states none, both are 0.
        ends: The row behind the last object of each image, int64 (N,).
        objects: The objects of all images, M of them, in the order of the images.
    """

    folder: Path
    names: Texts
    image_ids: Tensor
    sizes: Tensor
    ends: Tensor
    objects: Objects

    @classmethod
    def numbered(
        cls,
        folder: Path,
        names: Iterable[str],
        counts: Iterable[int],
        objects: Objects,
        sizes: Iterable[tuple[int, int] | None] | None = None,
    ) -> "ImageTable":
        """Make a table of images whose numbers count from 0.

        Args:
            folder: The folder that holds the image files.
            names: The path of each image file within the folder.
            counts: The number of objects of each image.
            objects: The objects of all images, in their order.
            sizes: The (height, width) in pixels that the annotation states of each image, or None.
                Default (None): it states no size of any.

        Returns:
            The table.
        """
        ends = torch.tensor(list(counts), dtype=torch.int64).cumsum(0)
        stated = torch.zeros(len(ends), 2, dtype=torch.int64)
        if sizes is not None:
            stated = torch.tensor([size or (0, 0) for size in sizes], dtype=torch.int64)
        numbers = torch.arange(len(ends))
        return cls(folder, Texts.of(names), numbers, stated.reshape(-1, 2), ends, objects)

    @classmethod
    def joined(cls, images: Sequence[AnnotatedImage]) -> "ImageTable":
        """Make a table of one image or more, whose objects have the same attributes."""
        objects = [image.objects for image in images]
        columns = [(one.boxes, one.labels, one.area, one.iscrowd) for one in objects]
        boxes, labels, area, iscrowd = map(torch.cat, zip(*columns, strict=True))
        attributes = {
            name: torch.cat([one.attributes[name] for one in objects])
            for name in objects[0].attributes
        }
        table = cls.numbered(
            Path(),
            (str(image.path) for image in images),
            map(len, objects),
            Objects(boxes, labels, area, iscrowd, attributes),
            (image.size for image in images),
        )
        return replace(table, image_ids=torch.tensor([image.image_id for image in images]))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> AnnotatedImage:
        """One image, whose objects are views of the table's."""
        number = as_index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"image {number} of {len(self)}")
        number %= len(self)
        start = int(self.ends[number - 1]) if number else 0
        return AnnotatedImage(
            self.path(number),
            int(self.image_ids[number]),
            self.size(number),
            self.objects.rows(slice(start, int(self.ends[number]))),
        )

    def __iter__(self) -> Iterator[AnnotatedImage]:
        return (self[number] for number in range(len(self)))

    def path(self, number: int) -> Path:
        """The file of an image."""
        return self.folder / self.names[number]

    def paths(self) -> Iterator[Path]:
        """The files of all images, in their order."""
        return (self.folder / name for name in self.names)

    def size(self, number: int) -> tuple[int, int] | None:
        """The (height, width) that is stated of an image; None where there is none."""
        height, width = self.sizes[number].tolist()
        return (height, width) if height else None

    def counts(self) -> Tensor:
        """The number of objects of each image, int64 (N,)."""
        return self.ends.diff(prepend=self.ends.new_zeros(1))

    def sizes_of_objects(self) -> Tensor:
        """The stated (height, width) of the image of each object, int64 (M, 2)."""
        return self.sizes.repeat_interleave(self.counts(), dim=0)

    def image_of(self, row: int) -> int:
        """The image of an object."""
        return int(torch.searchsorted(self.ends, row, right=True))

    def learnable(self, *, keep_images_without_objects: bool) -> "ImageTable":
        """The images with the objects to learn from, as :meth:`Objects.learnable` has them.

        Args:
            keep_images_without_objects: Whether images stay of which no object remains.

        Returns:
            The images that remain, in their order. Where no size is stated, boxes are not clipped.
        """
        objects = self.objects.clipped(self.sizes_of_objects())
        keep = objects.can_be_learnt()
        before = torch.cat([self.ends.new_zeros(1), keep.cumsum(0)])  # of those that stay
        ends = before[self.ends]
        table = replace(self, ends=ends, objects=objects.rows(keep))
        return table if keep_images_without_objects else table._with_objects()

    def rows(self, which: Tensor) -> "ImageTable":
        """Some of the images with their objects, in the order of their indices, int64 (K,)."""
        counts = self.counts()
        ends = counts[which].cumsum(0)
        within = torch.arange(int(ends[-1]) if len(ends) else 0)
        shifts = (self.ends - counts)[which] - ends + counts[which]  # of each image's first object
        return ImageTable(
            self.folder,
            Texts.of(self.names[number] for number in which.tolist()),
            self.image_ids[which],
            self.sizes[which],
            ends,
            self.objects.rows(within + shifts.repeat_interleave(counts[which])),
        )

    def _with_objects(self) -> "ImageTable":
        """The images that have objects."""
        kept = self.counts() > 0
        lengths = self.names.ends.diff(prepend=self.names.ends.new_zeros(1))
        content = self.names.content[kept.repeat_interleave(lengths)]
        return replace(
            self,
            names=Texts(content, lengths[kept].cumsum(0)),
            image_ids=self.image_ids[kept],
            sizes=self.sizes[kept],
            ends=self.ends[kept],
        )
