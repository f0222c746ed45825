"""What happens to images on their way to the models, stated by recipes field by field.

The geometry of training (resizing, flips, crops) belongs here, so that teacher and student see the
same pixels. Normalisation belongs to each model. What leaves is float32 RGB in [0, 1].
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

GREY = (124, 116, 104)  # ImageNet's mean colour, as SSD's authors fill canvases


@dataclass(frozen=True)
class DetectionAugmentation:
    """Augmentation of a detection dataset, as in torchvision's reference training.

    Evaluation changes nothing: a detector resizes for itself at test time.

    Args:
        short_sides: in training an image is resized so that its shorter side is one of these,
            drawn at random; not resized by default.
        short_side_range: the same for any side from the first number to the last one, instead.
        long_side: the longer side's limit when resizing, which wins over the shorter one.
        size: (height, width) that every image is resized to in training, whatever its aspect, for
            detectors that resize to a fixed size at test time, such as SSD.
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

    short_sides: tuple[int, ...] | None = None
    short_side_range: tuple[int, int] | None = None
    long_side: int | None = None
    size: tuple[int, int] | None = None
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
        _check_probability("zoom_out", self.zoom_out)
        _check_probability("flip", self.flip)
        _check_probability("vertical_flip", self.vertical_flip)
        _check_probability("photometric", self.photometric)

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

    def evaluation(self) -> v2.Compose:
        """Takes and gives ``(image, target)``."""
        return v2.Compose([to_float()])


@dataclass(frozen=True)
class ClassificationAugmentation:
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

    def forward(
        self, image: tv_tensors.Image, target: dict[str, Tensor]
    ) -> tuple[tv_tensors.Image, dict[str, Tensor]]:
        resized, moved = self.resize(image, target)
        factor = resized.shape[-2:].numel() / image.shape[-2:].numel()
        return resized, {**moved, "area": moved["area"] * factor}


class _Crop(nn.Module):
    """``v2.RandomIoUCrop``, without what it left of objects whose centre it cut off."""

    def __init__(self) -> None:
        super().__init__()
        per_object = v2.SanitizeBoundingBoxes(labels_getter=_per_object)
        self.crop = v2.Compose([v2.RandomIoUCrop(), per_object])

    def forward(
        self, image: tv_tensors.Image, target: dict[str, Tensor]
    ) -> tuple[tv_tensors.Image, dict[str, Tensor]]:
        cropped, left = self.crop(image, target)
        sides = left["boxes"][:, 2:] - left["boxes"][:, :2]
        return cropped, {**left, "area": left["area"].minimum(sides.prod(dim=1))}


def _per_object(sample: tuple[tv_tensors.Image, dict[str, Tensor]]) -> tuple[Tensor, ...]:
    """What has a row for each object, beside the boxes."""
    _, target = sample
    return tuple(rows for key, rows in target.items() if key not in ("boxes", "image_id"))


def to_float() -> v2.Transform:
    """To float32 in [0, 1], which every pipeline ends with."""
    return v2.ToDtype(torch.float32, scale=True)


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}; expected a probability from 0 to 1")
