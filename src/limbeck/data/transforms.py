"""What happens to images on their way to the models, stated by recipes field by field.

The geometry of training (resizing, flips, crops) belongs here, so that teacher and student see the
same pixels. Normalisation belongs to each model. What leaves is float32 RGB in [0, 1].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from limbeck.data.augmentation import Augmentation, to_float
from limbeck.data.base import Task

GREY = (124, 116, 104)  # ImageNet's mean colour, as SSD's authors fill canvases

Sample = tuple[tv_tensors.Image, dict[str, Tensor]]


@dataclass(frozen=True)
class DetectionAugmentation(Augmentation):
    """Augmentation of a detection dataset, as in torchvision's reference training.

    Evaluation changes nothing: a detector resizes for itself at test time.

    Args:
        short_sides: in training an image is resized so that its shorter side is one of these,
            drawn at random; not resized by default.
        short_side_range: the same for any side from the first number to the last one, instead.
        long_side: the longer side's limit when resizing, which wins over the shorter one.
        size: (height, width) that every image is resized to in training, whatever its aspect, for
            detectors that resize to a fixed size at test time, such as SSD.
        sizes: (height, width)s instead, one of which is drawn for each batch, as YOLOv2's authors
            do it every ten batches. Processes draw each for themselves.
        zoom_out: probability that an image is put somewhere on a grey canvas of up to four times
            its sides, as SSD's authors do it; after the photometric distortion.
        iou_crop: crop a random part that overlaps an object enough, or nothing, as SSD's authors do
            it; objects whose centre is cut off go.
        flip: probability of a horizontal flip.
        vertical_flip: probability of a vertical flip, for images without an upright.
        jitter: strength of the random change of brightness, contrast and saturation.
        photometric: probability of each distortion of brightness, contrast, saturation, hue and
            channel order, as SSD's authors do it.

    Raises:
        ValueError: ``long_side`` without a short side, sizes stated twice, or a probability outside
            [0, 1].
    """

    task: ClassVar[Task] = "detection"

    short_sides: tuple[int, ...] | None = None
    short_side_range: tuple[int, int] | None = None
    long_side: int | None = None
    size: tuple[int, int] | None = None
    sizes: tuple[tuple[int, int], ...] | None = None
    zoom_out: float = 0.0
    iou_crop: bool = False
    flip: float = 0.5
    vertical_flip: float = 0.0
    jitter: float = 0.0
    photometric: float = 0.0

    def __post_init__(self) -> None:
        first, last = self.short_side_range or (1, 1)
        if not 0 < first <= last or (self.short_sides and self.short_side_range):
            raise ValueError(
                f"short_side_range is {self.short_side_range} and short_sides {self.short_sides}; "
                "expected one of them, and of a range its smallest and its largest side"
            )
        if self.long_side is not None and not self.sides:
            raise ValueError(f"long_side is {self.long_side}, but short_sides is not given")
        if self.size is not None and (self.sides or min(self.size) < 1):
            raise ValueError(
                f"size is {self.size} and short_sides {self.sides}; expected one of them, and of "
                "size a height and a width"
            )
        if self.sizes is not None:
            self._check_sizes(self.sizes)
        _check_probability("zoom_out", self.zoom_out)
        _check_probability("flip", self.flip)
        _check_probability("vertical_flip", self.vertical_flip)
        _check_probability("photometric", self.photometric)

    def _check_sizes(self, sizes: tuple[tuple[int, int], ...]) -> None:
        if self.size or self.sides or not sizes or min(map(min, sizes)) < 1:
            raise ValueError(
                f"sizes is {sizes}, size {self.size} and short_sides {self.sides}; expected one of "
                "them, and of sizes a height and a width each"
            )

    @property
    def sides(self) -> tuple[int, ...]:
        """What shorter sides are drawn from, pixels; empty: images are not resized."""
        if self.short_side_range is None:
            return self.short_sides or ()
        first, last = self.short_side_range
        return tuple(range(first, last + 1))

    def training(self) -> v2.Compose:
        """Takes and gives ``(image, target)``."""
        steps: list[nn.Module] = []
        if self.photometric:
            steps.append(v2.RandomPhotometricDistort(p=self.photometric))
        if self.zoom_out:
            steps.append(v2.RandomZoomOut(fill=GREY, p=self.zoom_out))
        if self.iou_crop:
            steps.append(_Crop())
        if self.sides:
            steps.append(_Resize(v2.RandomShortestSize(list(self.sides), self.long_side)))
        if self.size is not None:
            steps.append(_Resize(v2.Resize(list(self.size))))
        if self.jitter:
            steps.append(v2.ColorJitter(self.jitter, self.jitter, self.jitter))
        steps += [v2.RandomHorizontalFlip(self.flip), v2.RandomVerticalFlip(self.vertical_flip)]
        return v2.Compose([*steps, to_float()])

    def training_batch(self) -> "OneSize | None":
        """Takes and gives all that ``training`` made of a batch; None without ``sizes``."""
        return None if self.sizes is None else OneSize(self.sizes)


@dataclass(frozen=True)
class ShuffleDetAugmentation(Augmentation):
    """Augmentation of ShuffleDet on KITTI, as the authors of fine-grained imitation have it.

    In this order: brightness, contrast, saturation, drift, flip, resizing. Saturation is what they
    meant, a blend with the grey image: theirs multiplies one row of pixels. Evaluation changes
    nothing, as the detector resizes for itself at test time.

    Args:
        size: (height, width) that every image is resized to in training, whatever its aspect.
        brightness: the most that is added to or taken from all values, of 255; an integer is drawn.
        contrast: smallest and largest number that all values are multiplied by.
        saturation: likewise, what the difference from the grey image is multiplied by.
        drift: the most that an image moves along x and y, pixels. Moved to the left or up, it loses
            columns or rows, as far as no object is touched; moved to the right or down, it gains
            some of the mean colour. Its size changes accordingly.
        flip: probability of a horizontal flip.

    Raises:
        ValueError: a size or a range is none, or ``flip`` is no probability.
    """

    task: ClassVar[Task] = "detection"

    size: tuple[int, int] = (384, 1248)
    brightness: int = 50
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.3, 1.7)
    drift: tuple[int, int] = (150, 100)
    flip: float = 0.5

    def __post_init__(self) -> None:
        if min(self.size) < 1 or min(self.brightness, *self.drift) < 0:
            raise ValueError(
                f"size is {self.size}, brightness {self.brightness}, drift {self.drift}; expected "
                "at least 1, 0 and 0"
            )
        for name, (low, high) in (("contrast", self.contrast), ("saturation", self.saturation)):
            if not 0 <= low <= high:
                raise ValueError(f"{name} is {(low, high)}; expected 0 <= smallest <= largest")
        _check_probability("flip", self.flip)

    def training(self) -> v2.Compose:
        """Takes and gives ``(image, target)``."""
        return v2.Compose(
            [
                _Brightness(self.brightness),
                v2.ColorJitter(brightness=self.contrast),  # its brightness is a factor
                v2.ColorJitter(saturation=self.saturation),
                _Drift(*self.drift),
                v2.RandomHorizontalFlip(self.flip),
                _Resize(v2.Resize(list(self.size))),
                to_float(),
            ]
        )


@dataclass(frozen=True)
class ClassificationAugmentation(Augmentation):
    """Augmentation of a classification dataset, as it is common for ImageNet.

    Args:
        size: side of the square images that come out.
        scale: smallest and largest part of an image's area that a training crop covers.
        flip: probability of a horizontal flip.
        jitter: strength of the random change of brightness, contrast and saturation.
        resize: in evaluation the shorter side before the central crop; ``size * 256 / 224``,
            rounded, by default.

    Raises:
        ValueError: ``scale`` is no part of an area, or ``flip`` no probability.
    """

    task: ClassVar[Task] = "classification"

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    jitter: float = 0.0
    resize: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale is {self.scale}; expected 0 < smallest <= largest <= 1")
        _check_probability("flip", self.flip)

    def training(self) -> v2.Compose:
        """Takes and gives ``(image, target)``."""
        steps: list[nn.Module] = [
            v2.RandomResizedCrop(self.size, scale=self.scale),
            v2.RandomHorizontalFlip(self.flip),
        ]
        if self.jitter:
            steps.append(v2.ColorJitter(self.jitter, self.jitter, self.jitter))
        return v2.Compose([*steps, to_float()])

    def evaluation(self) -> v2.Compose:
        """Takes and gives ``(image, target)``."""
        shorter = round(self.size * 256 / 224) if self.resize is None else self.resize
        return v2.Compose([v2.Resize(shorter), v2.CenterCrop(self.size), to_float()])


class _Resize(nn.Module):
    """Resizes, after which ``area`` counts pixels of the resized image."""

    def __init__(self, resize: v2.Transform) -> None:
        super().__init__()
        self.resize = resize

    def forward(self, image: tv_tensors.Image, target: dict[str, Tensor]) -> Sample:
        resized, moved = self.resize(image, target)
        factor = resized.shape[-2:].numel() / image.shape[-2:].numel()
        return resized, {**moved, "area": moved["area"] * factor}


class OneSize(nn.Module):
    """Resizes all images of a batch to one of some (height, width)s, drawn at random."""

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.sizes = sizes

    def forward(self, samples: Sequence[Sample]) -> list[Sample]:
        """Takes and gives the ``(image, target)`` of each image of the batch."""
        size = self.sizes[_drawn(0, len(self.sizes))]
        resize = _Resize(v2.Resize(list(size)))
        return [resize(*sample) for sample in samples]


class _Brightness(nn.Module):
    """Adds one integer to all values of a uint8 image."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, image: tv_tensors.Image, target: dict[str, Tensor]) -> Sample:
        brighter = image.short() + _drawn(-self.most, self.most + 1)
        return tv_tensors.Image(brighter.clamp(0, 255).to(torch.uint8)), target


class _Drift(nn.Module):
    """Moves an image by whole pixels: cuts from its left or top, or pads there with grey."""

    def __init__(self, x: int, y: int) -> None:
        super().__init__()
        self.x = x
        self.y = y

    def forward(self, image: tv_tensors.Image, target: dict[str, Tensor]) -> Sample:
        height, width = image.shape[-2:]
        # Without objects, a column and a row of the image stay.
        margins = torch.cat([target["boxes"][:, :2], torch.tensor([[width, height]])])
        left, top = margins.amin(dim=0).tolist()
        x, y = _shift(self.x, left), _shift(self.y, top)
        padding = [max(-x, 0), max(-y, 0), 0, 0]
        part = (max(y, 0), max(x, 0), height - y, width - x)

        def moved(thing: Tensor) -> Tensor:
            cropped: Tensor = F.crop(F.pad(thing, padding, fill=list(GREY)), *part)
            return cropped

        return moved(image), {**target, "boxes": moved(target["boxes"])}


def _shift(most: int, margin: float) -> int:
    """From -most to most, below the margin, as far as there is such a number."""
    return _drawn(-most, max(min(most + 1, math.ceil(margin)), 1 - most))


def _drawn(low: int, high: int) -> int:
    """An integer from low to high - 1."""
    return int(torch.randint(low, high, ()))


class _Crop(nn.Module):
    """``v2.RandomIoUCrop``, without what it left of objects whose centre it cut off."""

    def __init__(self) -> None:
        super().__init__()
        per_object = v2.SanitizeBoundingBoxes(labels_getter=_per_object)
        self.crop = v2.Compose([v2.RandomIoUCrop(), per_object])

    def forward(self, image: tv_tensors.Image, target: dict[str, Tensor]) -> Sample:
        cropped, left = self.crop(image, target)
        sides = left["boxes"][:, 2:] - left["boxes"][:, :2]
        return cropped, {**left, "area": left["area"].minimum(sides.prod(dim=1))}


def _per_object(sample: Sample) -> tuple[Tensor, ...]:
    """What has a row for each object, beside the boxes."""
    _, target = sample
    return tuple(rows for key, rows in target.items() if key not in ("boxes", "image_id"))


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}; expected a probability from 0 to 1")
