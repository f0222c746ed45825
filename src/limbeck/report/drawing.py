"""Boxes and their names, drawn into the pixels of an image, for all pictures of detections.

Letters grow with the image, and stand on a plate of the colour of their class. torchvision's
``draw_bounding_boxes`` always writes into the boxes, and beyond the edge of the image.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import PIL.Image
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import ImageColor, ImageDraw, ImageFont
from torch import Tensor

from limbeck.names import escaped
from limbeck.report.style import COLOURS, LONGEST

OVERLAY = "#F0E442"  # a colour of the same palette that no class has
LEAST_LETTERS = 13  # pixels, where the image is large enough for them
SMALLEST = 7  # pixels, below which letters are none
SHARE_OF_SIDE = 0.025  # of the shorter side of an image
MOST_HIDDEN = 0.5  # of any box, by a name

Sides = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels, exclusive
Corners = NDArray[np.float64]  # of boxes, (N, 4), xyxy in pixels


def drawn(
    image: Tensor,
    found: Mapping[str, Tensor],
    classes: Sequence[str],
    *,
    named: bool = True,
    letters: int | None = None,
) -> PIL.Image.Image:
    """Draw boxes over an image, whose other pixels stay as they are.

    Boxes of label 0, the background, are thin lines. A name stands above its box, otherwise in it
    or below it, and never beyond the image, over another name, or over half of any box. Of boxes
    that leave no room, such as the faces of a crowd, those of the highest scores have names.

    Args:
        image: The image (3, H, W), RGB in [0, 1].
        found: The ``boxes`` (N, 4), xyxy in pixels, the ``labels`` (N,) counting from 1 and, for
            predictions, the ``scores`` (N,).
        classes: The class names. Label ``i + 1`` is ``classes[i]``; where there are no names,
            labels are shown as numbers.
        named: Whether names and scores are written.
        letters: The size of letters, in pixels. Default (None): as suits the image.

    Returns:
        The picture, of H by W pixels.
    """
    pixels = image.detach().float().clamp(0, 1).mul(255).byte().permute(1, 2, 0)
    picture = PIL.Image.fromarray(pixels.contiguous().cpu().numpy())
    draw = ImageDraw.Draw(picture)
    letters = letters or letters_of(picture.size)
    rows = list(_rows(found, classes))
    for label, _, box in reversed(rows):  # so that the highest scores are on top
        _frame(draw, box, label, max(1, round(letters / 8)))
    boxes = np.array([box for label, _, box in rows if label > 0]).reshape(-1, 4)
    taken: list[Sides] = []
    for label, text, box in rows if named else ():
        if label > 0:
            plate = _name(draw, text, box, _colour(label), letters, _Occupied(boxes, taken))
            taken += [plate] if plate else []
    return picture


def letters_of(size: tuple[int, int]) -> int:
    """The size of letters, in pixels, in an image of this width and height."""
    shorter = min(size)
    return min(max(LEAST_LETTERS, round(SHARE_OF_SIDE * shorter)), max(SMALLEST, shorter // 5))


def readable_on(colour: str) -> str:
    """Black or white, whichever has more contrast to a colour as WCAG 2.2 defines it.

    Args:
        colour: The colour, as ``#rrggbb``.

    Returns:
        ``black`` or ``white``, with a contrast of 4.58 : 1 at least.
    """
    return "black" if contrast(colour, "black") > contrast(colour, "white") else "white"


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours by WCAG 2.2, from 1 to 21."""
    darker, lighter = sorted(map(_luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    """The relative luminance of a colour by WCAG 2.2."""
    channels = (value / 255 for value in ImageColor.getrgb(colour)[:3])
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _rows(
    found: Mapping[str, Tensor], classes: Sequence[str]
) -> Iterator[tuple[int, str, list[float]]]:
    """The label, the text and the box of each object, the highest scores first."""
    labels, boxes = found["labels"].tolist(), found["boxes"].tolist()
    scores = found["scores"].tolist() if "scores" in found else None
    order = range(len(labels))
    for at in sorted(order, key=lambda at: -scores[at]) if scores else order:
        label = labels[at]
        name = escaped(classes[label - 1]) if classes and label > 0 else str(label)
        name = name if len(name) <= LONGEST else f"{name[:LONGEST]}..."
        if scores and label == 0:  # no class, see DetectionMetric.update
            continue
        yield label, f"{name} {scores[at]:.2f}" if scores else name, boxes[at]


def _frame(draw: ImageDraw.ImageDraw, box: Sequence[float], label: int, width: int) -> None:
    """The outline of a box, around its pixels, between two thin white lines."""
    x1, y1, x2, y2 = (round(side) for side in box)
    if label == 0:
        draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=OVERLAY)
        return
    half = width // 2
    for out, colour, wide in ((half + 1, "white", width + 2), (half, _colour(label), width)):
        corners = (x1 - out, y1 - out, max(x1, x2 - 1) + out, max(y1, y2 - 1) + out)
        draw.rectangle(corners, outline=colour, width=wide)


@dataclass(frozen=True)
class _Occupied:
    """Where no name may stand.

    Attributes:
        boxes: The boxes of all objects, of which a part has to be seen.
        names: The plates of other names, of which all has to be seen.
    """

    boxes: Corners
    names: Sequence[Sides]

    def refuses(self, plate: Sides) -> bool:
        """Whether a plate would hide too much."""
        areas = np.maximum(1.0, (self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1))
        if (_shared(self.boxes, plate) > MOST_HIDDEN * areas).any():
            return True
        return bool((_shared(np.array(self.names, float).reshape(-1, 4), plate) > 0).any())


def _shared(boxes: Corners, plate: Sides) -> NDArray[np.float64]:
    """The area that each box shares with a plate, (N,)."""
    sides = np.minimum(boxes[:, 2:], plate[2:]) - np.maximum(boxes[:, :2], plate[:2])
    areas: NDArray[np.float64] = sides.clip(min=0).prod(axis=1)
    return areas


def _name(
    draw: ImageDraw.ImageDraw,
    text: str,
    box: Sequence[float],
    colour: str,
    letters: int,
    occupied: _Occupied,
) -> Sides | None:
    """Write a name where there is room for it; its plate."""
    font, text = _fitted(text, letters, draw.im.size[0])
    pad = _padding(letters)
    ascent, descent = font.getmetrics()
    size = round(font.getlength(text)) + 2 * pad, ascent + descent + pad
    places = _places(box, size, draw.im.size, pad)
    plate = next((each for each in places if not occupied.refuses(each)), None)
    if plate:
        x1, y1, x2, y2 = plate
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=colour)
        draw.text((x1 + pad, y1 + pad // 2), text, fill=readable_on(colour), font=font)
    return plate


def _padding(letters: int) -> int:
    """The pixels on either side of a text on its plate."""
    return max(1, letters // 6)


def _places(
    box: Sequence[float], plate: tuple[int, int], image: tuple[int, int], gap: int
) -> Iterator[Sides]:
    """Where a plate may stand in the image, the best place first: above, within, or below."""
    x1, y1, x2, y2 = (round(side) for side in box)
    width, height = plate
    tops = (y1 - height, y1, y2) if y1 >= height else (y1, y2)
    for left in (x1 - gap, x2 - width + gap):
        for top in tops:
            x = max(0, min(left, image[0] - width))
            y = max(0, min(top, image[1] - height))
            yield x, y, x + width, y + height


def _fitted(text: str, letters: int, room: int) -> tuple[ImageFont.FreeTypeFont, str]:
    """A font in which a text is no wider than the image, and the text, cut where none is."""
    room -= 2 * _padding(letters)
    font = _font(letters)
    length = font.getlength(text)
    if length > room:
        font = _font(max(SMALLEST, int(letters * room / length)))
    while len(text) > 1 and font.getlength(text) > room:
        text = text[:-1]
    return font, text


@cache
def _font(letters: int) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib, which has Latin, Greek, Cyrillic and Arabic letters."""
    return ImageFont.truetype(findfont("DejaVu Sans"), letters)


def _colour(label: int) -> str:
    return COLOURS[(label - 1) % len(COLOURS)]
