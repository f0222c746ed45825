"""How images of any size come into the frame of an exported file, and boxes back from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.frame import Extent

Rule = Literal["stretch", "shorter_side", "fit"]


class Place(NamedTuple):
    """Where an image lies in the frame.

    Attributes:
        own: The (height, width) of the image as it came in, in pixels.
        content: The (height, width) of the resized image, in pixels.
        top: The rows of the frame above it.
        left: The columns of the frame to the left of it.
        scale: What the height and the width were multiplied by.
    """

    own: Extent
    content: Extent
    top: int
    left: int
    scale: tuple[float, float]


@dataclass(frozen=True)
class Framing:
    """How an image is resized and padded to the frame of a file.

    Images are resized bilinearly, where the corners of pixels (and not their centres) lie on each
    other: torch's ``interpolate`` with ``mode="bilinear"`` and ``align_corners=False``.

    Attributes:
        rule: ``stretch`` resizes an image to the frame, whatever its aspect. ``shorter_side`` keeps
            the aspect: its shorter side becomes ``min_size``, unless the longer one would exceed
            ``max_size``, or the image the frame; then it is as large as they let it be. ``fit``
            keeps the aspect, too, and makes the image as large as the frame lets it be.
        size: The (height, width) of the frame, in pixels. None: the frame is that of the largest
            image of a batch, with sides that are multiples of ``multiple``. ``fit`` needs one.
        multiple: What the sides of the frame have to be multiples of, in pixels.
        min_size: See ``rule``. None: the rule has no such number. ``shorter_side`` needs one.
        max_size: See ``rule``. None: there is no bound.
        rounding: How the sides of a resized image become whole numbers: ``down``, or ``nearest``,
            which rounds halves up.
        antialias: Whether pixels are averaged where an image becomes smaller, as Pillow does.
        centred: Whether an image lies in the centre of the frame, and not in its upper left corner.
        fill: What surrounds an image in its frame, RGB in [0, 1].
        inclusive: Whether boxes are scaled back by the numbers of their first and last pixels. That
            is, 1 is subtracted from x2 and y2 before, and added after.
    """

    rule: Rule
    size: Extent | None
    multiple: int = 1
    min_size: int | None = None
    max_size: float | None = None
    rounding: Literal["down", "nearest"] = "down"
    antialias: bool = False
    centred: bool = False
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0)
    inclusive: bool = False

    def framed(self, images: Sequence[Tensor]) -> tuple[Tensor, list[Place]]:
        """Bring images into frames of one size.

        Args:
            images: The images, (3, H, W) each, RGB in [0, 1], one at least.

        Returns:
            The batch (B, 3, H, W), float32, and where each image lies in its frame.

        Raises:
            TypeError: An image is no float.
            ValueError: There is no image, or one is not (3, H, W).
        """
        _refuse_unfit(images)
        own = [_extent(image) for image in images]
        frame = self.size or (self._around(own) if self.rule == "stretch" else None)
        contents = [self._content(each, frame) for each in own]
        height, width = frame or self._around([content for content, _ in contents])
        canvas = torch.tensor(self.fill)[:, None, None].expand(-1, height, width)
        batch = canvas.repeat(len(images), 1, 1, 1)
        places = []
        for frame, image, (content, scale) in zip(batch, images, contents, strict=True):
            top, left = (height - content[0]) // 2, (width - content[1]) // 2
            place = Place(_extent(image), content, top * self.centred, left * self.centred, scale)
            rows = slice(place.top, place.top + content[0])
            columns = slice(place.left, place.left + content[1])
            frame[:, rows, columns] = self._resized(image.detach().cpu().float(), content)
            places.append(place)
        return batch, places

    def back(self, boxes: Tensor, place: Place) -> Tensor:
        """Bring boxes from the frame to the image as it came in, and clip them to it.

        Args:
            boxes: The boxes (N, 4), xyxy, in pixels of the frame.
            place: Where the image lies in the frame.

        Returns:
            The boxes (N, 4), xyxy, in pixels of the image.
        """
        down, across = place.scale
        last = boxes.new_tensor([0.0, 0.0, 1.0, 1.0]) * self.inclusive
        offset = boxes.new_tensor([place.left, place.top, place.left, place.top])
        moved = (boxes - offset - last) / boxes.new_tensor([across, down, across, down]) + last
        height, width = place.own
        return moved.clamp(min=0).minimum(moved.new_tensor([width, height, width, height]))

    def _around(self, sizes: Sequence[Extent]) -> Extent:
        """The smallest frame with sides that are multiples in which all these sizes have room."""
        height, width = (math.ceil(max(side) / self.multiple) for side in zip(*sizes, strict=True))
        return height * self.multiple, width * self.multiple

    def _content(self, own: Extent, frame: Extent | None) -> tuple[Extent, tuple[float, float]]:
        """The size of a resized image, and what its height and its width were multiplied by."""
        if 0 in own:
            raise ValueError(f"an image is {own[0]} x {own[1]} px; expected one pixel at least.")
        if self.rule == "stretch" and frame:
            height, width = frame
            return frame, (height / own[0], width / own[1])
        ratio = math.inf
        if frame:
            ratio = min(side / of_image for side, of_image in zip(frame, own, strict=True))
        if self.rule == "shorter_side" and self.min_size:
            longest = self.max_size or math.inf
            ratio = min(ratio, self.min_size / min(own), longest / max(own))
        half = 0.5 if self.rounding == "nearest" else 0.0
        content = (self._side(own[0], ratio, half), self._side(own[1], ratio, half))
        if self.rule == "fit":
            return content, (ratio, ratio)
        return content, (content[0] / own[0], content[1] / own[1])

    def _side(self, side: int, ratio: float, half: float) -> int:
        return max(1, int(side * ratio + half))

    def _resized(self, image: Tensor, content: Extent) -> Tensor:
        if _extent(image) == content:
            return image
        return F.interpolate(
            image[None], content, mode="bilinear", antialias=self.antialias, align_corners=False
        )[0]


def _extent(image: Tensor) -> Extent:
    height, width = image.shape[-2:]
    return height, width


def _refuse_unfit(images: Sequence[Tensor]) -> None:
    if not images:
        raise ValueError("there is no image; expected one at least, (3, H, W).")
    for number, image in enumerate(images):
        if image.dim() != 3 or image.shape[0] != 3:
            raise ValueError(
                f"image {number} has the shape {tuple(image.shape)}; expected (3, H, W), RGB. Give "
                "a list of such images, or a batch (B, 3, H, W)."
            )
        if not image.is_floating_point():
            raise TypeError(f"images are {image.dtype}: expected float in [0, 1]. Divide by 255.")
