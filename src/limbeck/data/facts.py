"""What is in a dataset, in numbers: counts, sizes, and what is wrong with it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.data.contents import Contents
from limbeck.data.examined import Examined
from limbeck.data.orientation import UPRIGHT
from limbeck.data.table import ONE_PIXEL, Objects

_QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
_COCO_SIZES = (32.0, 96.0)  # the sides of a small and of a medium object, by COCO's definition


@dataclass(frozen=True)
class Resize:
    """How a detector resizes images before it looks at them.

    Attributes:
        size: The (height, width) that every image is brought to. None: the aspect is kept.
        short: The shorter side in pixels, where the aspect is kept.
        long: The most that the longer side may have.
    """

    size: tuple[int, int] | None = None
    short: int = 0
    long: float = float("inf")

    def factors(self, sizes: Tensor) -> Tensor:
        """What (height, width) are multiplied by, of images of these sizes, float64 (N, 2)."""
        sides = sizes.double()
        if self.size is not None:
            return torch.tensor(self.size, dtype=torch.float64) / sides
        ends = torch.minimum(self.short / sides.amin(1), self.long / sides.amax(1))
        return ends[:, None].expand(-1, 2)

    def __str__(self) -> str:
        if self.size is not None:
            return f"resized to {self.size[0]} x {self.size[1]}"
        return f"resized to a shorter side of {self.short}, a longer of {self.long:g} at most"


@dataclass(frozen=True)
class Spread:
    """How numbers are spread: the least, 5 %, the median, 95 %, and the most."""

    least: float
    low: float
    median: float
    high: float
    most: float

    @classmethod
    def of(cls, values: Tensor) -> "Spread | None":
        """The spread of some numbers, (N,); None where there are none."""
        ordered = values.double().sort().values
        last = len(ordered) - 1
        return cls(*(float(ordered[round(q * last)]) for q in _QUANTILES)) if last >= 0 else None

    def __str__(self) -> str:
        spread = "" if self.low == self.high else f" ({self.low:.0f} to {self.high:.0f})"
        return f"{self.median:.0f}{spread}"


@dataclass(frozen=True)
class BoxFacts:
    """The boxes of a split, in pixels.

    Attributes:
        widths: The widths of those in images of known size.
        heights: The heights of these.
        small: The share of boxes of fewer than 32 x 32 pixels.
        large: The share of boxes of 96 x 96 pixels or more.
        per_image: The number of objects of an image.
        outside: How many reach more than a pixel beyond their image.
        wholly_outside: How many of these have no part in it.
        empty: How many have a side of less than a pixel.
    """

    widths: Spread | None
    heights: Spread | None
    small: float
    large: float
    per_image: Spread | None
    outside: int
    wholly_outside: int
    empty: int


@dataclass(frozen=True)
class SplitFacts:
    """What is in one split.

    Attributes:
        images: The number of images.
        objects: The number of objects, with those that are ignored; of classification, of images.
        classes: The number of objects of each class.
        images_with: The number of images that have each class.
        marked: The number of objects that have a mark: "crowd or ignored", and of what else the
            layout says of an object, such as "difficult".
        without_objects: The number of images without objects.
        learnable_images: The number of images that training keeps.
        learnable_objects: The number of objects that training keeps.
        widths: The widths of the images, in pixels.
        heights: The heights of the images.
        sizes: How many different sizes there are.
        boxes: The boxes; None of classification.
        orientations: How many images have an EXIF orientation that turns them.
        unsettled: How many of these do not tell which way up their boxes are.
        unreadable: Why images cannot be read, a sentence each.
    """

    images: int
    objects: int
    classes: dict[str, int]
    images_with: dict[str, int]
    marked: dict[str, int]
    without_objects: int
    learnable_images: int
    learnable_objects: int
    widths: Spread | None
    heights: Spread | None
    sizes: int
    boxes: BoxFacts | None
    orientations: int
    unsettled: int
    unreadable: list[str]


def facts_of(contents: Contents, files: Sequence[Examined], resize: Resize | None) -> SplitFacts:
    """Count what is in a split.

    Args:
        contents: Its contents, as annotated.
        files: What its files are like; empty where it has none.
        resize: The resizing after which boxes are measured. None: they are measured as they are.

    Returns:
        The facts.
    """
    table, objects = contents.images, contents.images.objects
    sizes = _sizes(contents, files)
    known = sizes[sizes[:, 0] > 0]
    owners = torch.arange(len(table)).repeat_interleave(table.counts())
    learnable = table.learnable(keep_images_without_objects=False)
    detects = contents.task == "detection"
    shared = torch.unique(torch.stack([owners, objects.labels], dim=1), dim=0)[:, 1]
    return SplitFacts(
        images=len(table),
        objects=len(objects),
        classes=_by_class(contents.classes, objects.labels),
        images_with=_by_class(contents.classes, shared),
        marked=_marks(objects),
        without_objects=int((table.counts() == 0).sum()),
        learnable_images=len(learnable) if detects else len(table),
        learnable_objects=len(learnable.objects) if detects else len(objects),
        widths=Spread.of(known[:, 1]),
        heights=Spread.of(known[:, 0]),
        sizes=len(torch.unique(known, dim=0)),
        boxes=_boxes(objects, table.counts(), sizes[owners], resize) if detects else None,
        orientations=sum(file.orientation != UPRIGHT for file in files),
        unsettled=sum(not file.settled for file in files) if detects else 0,
        unreadable=[file.problem for file in files if file.problem],
    )


def _sizes(contents: Contents, files: Sequence[Examined]) -> Tensor:
    """The (height, width) of each image as annotated, or else of its file; 0 where neither is."""
    sizes = contents.images.sizes.clone()
    for at, file in enumerate(files):
        if not sizes[at, 0] and file.annotated is not None:
            sizes[at] = torch.tensor(file.annotated)
    return sizes


def _by_class(classes: Sequence[str], labels: Tensor) -> dict[str, int]:
    counts = labels.bincount(minlength=len(classes) + 1).tolist()
    return {name: counts[label] for label, name in enumerate(classes, 1)}


def _marks(objects: Objects) -> dict[str, int]:
    """How many objects have each mark that is a yes or no, or a number above 0."""
    marks = {"crowd or ignored": objects.iscrowd, **objects.attributes}
    flat = {name: column for name, column in marks.items() if column.ndim == 1}
    return {name: int((column > 0).sum()) for name, column in flat.items()}


def _boxes(objects: Objects, per_image: Tensor, sizes: Tensor, resize: Resize | None) -> BoxFacts:
    clipped = objects.within(sizes)
    reaching = ((objects.boxes - clipped).abs() > 1).any(dim=1)
    sides = (objects.boxes[:, 2:] - objects.boxes[:, :2]).double()  # width, height
    empty = (sides < ONE_PIXEL).any(dim=1)
    # Where nobody knows the size of an image, YOLO's shares of it are no pixels.
    known = sizes[:, 0] > 0
    measured = sides[known]
    if resize is not None:
        measured = measured * resize.factors(sizes[known]).flip(1)
    areas = measured.prod(dim=1)
    small, large = (side**2 for side in _COCO_SIZES)
    count = max(1, len(areas))
    return BoxFacts(
        Spread.of(measured[:, 0]),
        Spread.of(measured[:, 1]),
        int((areas < small).sum()) / count,
        int((areas >= large).sum()) / count,
        Spread.of(per_image),
        int(reaching.sum()),
        int((clipped[reaching, 2:] <= clipped[reaching, :2]).any(dim=1).sum()),
        int(empty.sum()),
    )
