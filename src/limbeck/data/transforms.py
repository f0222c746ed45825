"""limbeck's own augmentations, which recipes state field by field.

The geometry of training (resizing, flips, crops) belongs here, so that teacher and student see the
same pixels. Normalisation belongs to each model. The images that leave are uint8 RGB; where those
of a batch are resized once more, they are float32 in [0, 1].
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
from limbeck.ranges import NOT_NEGATIVE, SHARE, SIDE, Range, refuse_outside

GREY = (124, 116, 104)  # ImageNet's mean colour, as SSD's authors fill canvases

_DETECTION = {
    "short_sides": SIDE,
    "short_side_range": SIDE,
    "long_side": SIDE,
    "size": SIDE,
    "sizes": SIDE,
    "zoom_out": SHARE,
    "flip": SHARE,
    "vertical_flip": SHARE,
    "jitter": NOT_NEGATIVE,
    "photometric": SHARE,
}
_SHUFFLEDET = {
    "size": SIDE,
    "brightness": Range(0),
    "contrast": NOT_NEGATIVE,
    "saturation": NOT_NEGATIVE,
    "drift": Range(0),
    "flip": SHARE,
}
_CLASSIFICATION = {
    "size": SIDE,
    "flip": SHARE,
    "jitter": NOT_NEGATIVE,
    "resize": SIDE,
    "padding": Range(0, SIDE.most),
}

Sample = tuple[tv_tensors.Image, dict[str, Tensor]]


@dataclass(frozen=True)
class DetectionAugmentation(Augmentation):
    """The augmentation of a detection dataset, as in torchvision's reference training.

    Evaluation changes nothing: a detector resizes for itself at test time.

    Attributes:
        task: The task, which is ``"detection"``.
        short_sides: The lengths in pixels of which one is drawn at random for the shorter side of
            each training image, which is resized to it. Default (None): images are not resized.
        short_side_range: The smallest and the largest of such lengths, in place of
            ``short_sides``: any integer between them is drawn.
        long_side: The largest length of the longer side in pixels when resizing, which wins over
            the shorter side. Default (None): there is no limit.
        size: The (height, width) in pixels that every training image is resized to, whatever its
            aspect, for detectors that resize to a fixed size at test time, such as SSD. Default
            (None): they are not.
        sizes: Several of such (height, width), of which one is drawn for each batch, as the authors
            of YOLOv2 do it every ten batches. Each process draws for itself.
        zoom_out: The probability that an image is put somewhere on a grey canvas of up to four
            times its sides, after the photometric distortion, as the authors of SSD do it.
        iou_crop: Whether to crop a random part that overlaps an object enough, as the authors of
            SSD do it. Objects whose centre is cut off go, and some images are not cropped.
        flip: The probability of a horizontal flip.
        vertical_flip: The probability of a vertical flip, for images that have no upright.
        jitter: The strength of the random change of brightness, contrast and saturation, from 0.
        photometric: The probability of each distortion of brightness, contrast, saturation, hue and
            the order of channels, as the authors of SSD do it.

    Raises:
        ValueError: ``long_side`` is given without a short side or is below one, the size is given
            twice, or a number is out of its range.

    Example:
        >>> from limbeck.data import DetectionAugmentation, Shapes
        >>> transform = DetectionAugmentation(size=(64, 64), flip=0.0).training()
        >>> image, target = transform(*Shapes(count=1)[0])
        >>> image.shape, image.dtype
        (torch.Size([3, 64, 64]), torch.uint8)
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
        refuse_outside(_DETECTION, vars(self))
        first, last = self.short_side_range or (1, 1)
        if not 0 < first <= last or (self.short_sides and self.short_side_range):
            raise ValueError(
                f"short_side_range is {self.short_side_range} and short_sides {self.short_sides}; "
                "expected one of them, and of a range its smallest and its largest side"
            )
        if self.long_side is not None and not self.sides:
            raise ValueError(f"long_side is {self.long_side}, but short_sides is not given")
        if self.long_side is not None and max(self.sides) > self.long_side:
            raise ValueError(
                f"long_side is {self.long_side}, and a short side {max(self.sides)}; expected a "
                "long_side at or above all short ones. Raise it, or lower the short sides."
            )
        if self.size is not None and (self.sides or min(self.size) < 1):
            raise ValueError(
                f"size is {self.size} and short_sides {self.sides}; expected one of them, and of "
                "size a height and a width"
            )
        if self.sizes is not None:
            self._check_sizes(self.sizes)

    def _check_sizes(self, sizes: tuple[tuple[int, int], ...]) -> None:
        if self.size or self.sides or not sizes or min(map(min, sizes)) < 1:
            raise ValueError(
                f"sizes is {sizes}, size {self.size} and short_sides {self.sides}; expected one of "
                "them, and of sizes a height and a width each"
            )

    @property
    def sides(self) -> tuple[int, ...]:
        """The lengths in pixels that shorter sides are drawn from; empty where none are resized."""
        if self.short_side_range is None:
            return self.short_sides or ()
        first, last = self.short_side_range
        return tuple(range(first, last + 1))

    def training(self) -> v2.Compose:
        """The transform of each training image with its target."""
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
        # What is resized once more, with its batch, is not rounded before.
        return v2.Compose(steps if self.sizes is None else [*steps, to_float()])

    def training_batch(self) -> "OneSize | None":
        """The resizing of a whole batch to one of ``sizes``, or None where there are none."""
        return None if self.sizes is None else OneSize(self.sizes)


@dataclass(frozen=True)
class ShuffleDetAugmentation(Augmentation):
    """The augmentation of ShuffleDet on KITTI, as the authors of fine-grained imitation have it.

    The order is brightness, contrast, saturation, drift, flip, resizing. The saturation is what the
    authors meant, a blend with the grey image: their code multiplies one row of pixels. Evaluation
    changes nothing, as the detector resizes for itself at test time.

    Attributes:
        task: The task, which is ``"detection"``.
        size: The (height, width) in pixels that every training image is resized to, whatever its
            aspect.
        brightness: The largest integer, of 255, that is added to or taken from all values.
        contrast: The smallest and the largest number that all values are multiplied by.
        saturation: The smallest and the largest number that the difference from the grey image is
            multiplied by.
        drift: The largest distances in pixels that an image moves along x and y. Where it moves to
            the left or up, it loses columns or rows, as far as no object is touched; where it moves
            to the right or down, it gains some of the mean colour. Its size changes accordingly.
        flip: The probability of a horizontal flip.

    Raises:
        ValueError: A size is less than 1, a range has no smallest and largest number from 0, or
            ``flip`` is no probability.
    """

    task: ClassVar[Task] = "detection"

    size: tuple[int, int] = (384, 1248)
    brightness: int = 50
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.3, 1.7)
    drift: tuple[int, int] = (150, 100)
    flip: float = 0.5

    def __post_init__(self) -> None:
        refuse_outside(_SHUFFLEDET, vars(self))
        for name, (low, high) in (("contrast", self.contrast), ("saturation", self.saturation)):
            if not 0 <= low <= high:
                raise ValueError(
                    f"{name} is {(low, high)}; expected 0 <= smallest <= largest. Exchange the two."
                )

    def training(self) -> v2.Compose:
        """The transform of each training image with its target."""
        return v2.Compose(
            [
                _Brightness(self.brightness),
                v2.ColorJitter(brightness=self.contrast),  # its brightness is a factor
                v2.ColorJitter(saturation=self.saturation),
                _Drift(*self.drift),
                v2.RandomHorizontalFlip(self.flip),
                _Resize(v2.Resize(list(self.size))),
            ]
        )


@dataclass(frozen=True)
class ClassificationAugmentation(Augmentation):
    """The augmentation of a classification dataset, as it is common for ImageNet.

    Attributes:
        task: The task, which is ``"classification"``.
        size: The side in pixels of the square images that come out.
        scale: The smallest and the largest part of an image's area that a training crop covers,
            above 0 and up to 1.
        flip: The probability of a horizontal flip.
        jitter: The strength of the random change of brightness, contrast and saturation, from 0.
        resize: The length in pixels of the shorter side before the central crop of evaluation.
            Default (None): ``size * 256 / 224``, rounded.
        padding: The number of black pixels on each side of a training image before the crop, which
            is then not resized, as it is common for CIFAR; an image that is too small for the crop
            gets more of them. Default (0): crops go by ``scale``.

    Raises:
        ValueError: ``scale`` is no range of parts of an area, or is given with ``padding``; or a
            number is out of its range.

    Example:
        >>> from limbeck.data import ClassificationAugmentation, Shapes
        >>> image, target = Shapes("classification", count=1)[0]
        >>> ClassificationAugmentation(size=48).evaluation()(image).shape
        torch.Size([3, 48, 48])
    """

    task: ClassVar[Task] = "classification"

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    jitter: float = 0.0
    resize: int | None = None
    padding: int = 0

    def __post_init__(self) -> None:
        refuse_outside(_CLASSIFICATION, vars(self))
        if self.padding and self.scale != (0.08, 1.0):
            raise ValueError(
                f"padding is {self.padding} and scale {self.scale}; expected one. Leave one out."
            )
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(
                f"scale is {self.scale}; expected 0 < smallest <= largest <= 1. Give the smaller "
                "one first."
            )

    def training(self) -> v2.Compose:
        """The transform of each training image with its target."""
        padded = v2.RandomCrop(self.size, padding=self.padding, pad_if_needed=True)
        resized = v2.RandomResizedCrop(self.size, scale=self.scale)
        flip = v2.RandomHorizontalFlip(self.flip)
        steps: list[nn.Module] = [padded if self.padding else resized, flip]
        if self.jitter:
            steps.append(v2.ColorJitter(self.jitter, self.jitter, self.jitter))
        return v2.Compose(steps)

    def evaluation(self) -> v2.Compose:
        """The resizing and the central crop of each validation image."""
        shorter = round(self.size * 256 / 224) if self.resize is None else self.resize
        return v2.Compose([v2.Resize(shorter), v2.CenterCrop(self.size)])


class _Resize(nn.Module):
    """Resizes an image, after which ``area`` counts pixels of the resized one."""

    def __init__(self, resize: v2.Transform) -> None:
        super().__init__()
        self.resize = resize

    def forward(self, image: tv_tensors.Image, target: dict[str, Tensor]) -> Sample:
        self._refuse_vanishing(image)
        resized, moved = self.resize(image, target)
        factor = resized.shape[-2:].numel() / image.shape[-2:].numel()
        return resized, {**moved, "area": moved["area"] * factor}

    def _refuse_vanishing(self, image: Tensor) -> None:
        long_side = getattr(self.resize, "max_size", None)
        height, width = image.shape[-2:]
        if long_side is not None and min(height, width) * long_side <= max(height, width):
            raise ValueError(
                f"an image has {height} x {width} px (height x width), of which a long_side of "
                f"{long_side} leaves no pixel; expected sides of less than {long_side} : 1. Leave "
                "it out, or raise long_side."
            )


class OneSize(nn.Module):
    """Resizes all images of a batch to one of several sizes, which is drawn at random.

    Args:
        sizes: The sizes to draw from, each (height, width) in pixels.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.sizes = sizes

    def forward(self, samples: Sequence[Sample]) -> list[Sample]:
        """Resize the ``(image, target)`` of each sample of the batch."""
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
    """Draw an integer from -most to most that is below the margin, as far as there is one."""
    return _drawn(-most, max(min(most + 1, math.ceil(margin)), 1 - most))


def _drawn(low: int, high: int) -> int:
    """Draw an integer from low to high - 1."""
    return int(torch.randint(low, high, ()))


_SMALLEST_CROPPED = 4  # pixels; v2.RandomIoUCrop may leave 0.3 of a side, which is none of 3


class _Crop(nn.Module):
    """Crops as ``v2.RandomIoUCrop``, and drops objects whose centre was cut off."""

    def __init__(self) -> None:
        super().__init__()
        per_object = v2.SanitizeBoundingBoxes(labels_getter=_per_object)
        self.crop = v2.Compose([v2.RandomIoUCrop(), per_object])

    def forward(self, image: tv_tensors.Image, target: dict[str, Tensor]) -> Sample:
        if min(image.shape[-2:]) < _SMALLEST_CROPPED:
            return image, target
        cropped, left = self.crop(image, target)
        sides = left["boxes"][:, 2:] - left["boxes"][:, :2]
        return cropped, {**left, "area": left["area"].minimum(sides.prod(dim=1))}


def _per_object(sample: Sample) -> tuple[Tensor, ...]:
    """The fields of a target that have a row for each object, beside the boxes."""
    _, target = sample
    return tuple(rows for key, rows in target.items() if key not in ("boxes", "image_id"))
