"""The EXIF orientation of photographs: which way up the pixels of a file are seen.

A camera that is held upright stores the pixels as its sensor lies, and notes in EXIF how they are
to be turned or mirrored. Viewers, browsers and most annotation tools show the picture so.
"""

from pathlib import Path
from typing import Literal

import PIL.Image
import torch
from PIL import ImageOps
from torch import Tensor

from limbeck.data.base import open_image

BoxesOf = Literal["stored", "upright"]  # the pixels that boxes were drawn on

_TAG = 0x0112
UPRIGHT = 1  # the orientation of pixels that lie as they are seen
_SIDEWAYS = {5, 6, 7, 8}  # the orientations that swap the sides
_MIRRORED_X, _MIRRORED_Y = {2, 3, 6, 7}, {3, 4, 7, 8}  # after the sides are swapped
_REACH = 1 << 16  # bytes: EXIF stands at the beginning of a file, in some formats at the end
_MARKS = (b"exif", b"tiff:orientation", b"ii*\x00", b"mm\x00*")  # in lower case
_PNG, _PIXELS = b"\x89PNG", b"IDAT"
_JPEG = b"\xff\xd8"
_SCAN, _APP1 = 0xDA, 0xE1  # markers of a JPEG's segments: its pixels, and EXIF
_SEGMENTS = {*range(0xC0, 0xD0), *range(0xDA, 0xF0), 0xFE} - {0xC8}  # those that have a length
_HEAD = 1 << 14  # bytes, in which the pixels of most JPEGs begin


def orientation_of(image: PIL.Image.Image) -> int:
    """The image's EXIF orientation, from 1 to 8; 1 where there is none, or none that is known."""
    found = image.getexif().get(_TAG, UPRIGHT)
    return int(found) if found in range(2, 9) else UPRIGHT


def is_sideways(image: PIL.Image.Image) -> bool:
    """Whether the image's EXIF orientation swaps its height and its width."""
    return image.getexif().get(_TAG) in _SIDEWAYS


def seen_size(path: str | Path) -> tuple[int, int]:
    """The (height, width) in pixels of an image file as it is turned upright.

    Hardly any image is decoded for it.

    Args:
        path: The file.

    Raises:
        BadSampleError: The file cannot be read.
    """
    with open_image(path) as image:
        swapped = may_have_exif(Path(path)) and is_sideways(image)
        return (image.width, image.height) if swapped else (image.height, image.width)


def upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """The image as it is seen: turned or mirrored as its EXIF orientation says.

    Args:
        image: The open image.

    Returns:
        A turned copy of the image, or the image itself where there is nothing to turn, of which
        Pillow's own ``exif_transpose`` would make a copy.
    """
    return ImageOps.exif_transpose(image) if image.getexif().get(_TAG, 1) != 1 else image


def upright_boxes(boxes: Tensor, size: tuple[int, int], orientation: int) -> Tensor:
    """Boxes of stored pixels as those of the picture that is turned upright.

    Args:
        boxes: The boxes, xyxy, (N, 4).
        size: The (height, width) of the stored pixels.
        orientation: The EXIF orientation, from 1 to 8.

    Returns:
        The boxes, (N, 4).
    """
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    height, width = size
    if orientation in _SIDEWAYS:
        x1, y1, x2, y2 = y1, x1, y2, x2
        height, width = width, height
    if orientation in _MIRRORED_X:
        x1, x2 = width - x2, width - x1
    if orientation in _MIRRORED_Y:
        y1, y2 = height - y2, height - y1
    return torch.stack([x1, y1, x2, y2], dim=1)


def turns(image: PIL.Image.Image, size: tuple[int, int] | None, boxes_of: BoxesOf) -> bool:
    """Whether an image is turned upright for its boxes.

    Args:
        image: The open image.
        size: The (height, width) that its annotation states. It decides where the orientation
            swaps sides of different lengths. None: it states none.
        boxes_of: The pixels that the boxes are of where the size does not decide.

    Returns:
        Whether the boxes are of the image as it is seen.
    """
    stored, swapped = (image.height, image.width), (image.width, image.height)
    if size == swapped != stored:
        return is_sideways(image)
    return boxes_of == "upright" and not (size == stored != swapped and is_sideways(image))


def is_unsettled(path: Path, size: tuple[int, int] | None) -> bool:
    """Whether an image file has an orientation, and its stated size does not say what boxes are of.

    The pixels are not decoded, and most files are read in part.

    Args:
        path: The image file. One that cannot be read is no matter here.
        size: The (height, width) that its annotation states. None: it states none.

    Returns:
        Whether only the user can say it.
    """
    try:
        if not path.is_file() or not may_have_exif(path):  # a pipe would be waited for
            return False
        with open_image(path) as image:
            orientation = orientation_of(image)
    except OSError:
        return False
    return orientation != UPRIGHT and not settles(size, orientation)


def settles(size: tuple[int, int] | None, orientation: int) -> bool:
    """Whether a stated (height, width) tells if boxes are of the stored or the upright pixels."""
    return size is not None and size[0] != size[1] and orientation in _SIDEWAYS


def may_have_exif(path: Path) -> bool:
    """Whether a file has a mark of EXIF near its beginning or end; most have none.

    Pillow decodes a whole PNG to look for it.
    """
    with path.open("rb", buffering=0) as file:
        segments = _segments(file.read(_HEAD))
        if segments is not None:
            return _APP1 in segments
        file.seek(0)
        start = file.read(_REACH)
        length = file.seek(0, 2)
        file.seek(max(len(start), length - _REACH))
        found = start + file.read(_REACH)
    if found.startswith(_PNG) and _PIXELS in found:  # among which there is none
        found = found[: found.find(_PIXELS)] + found[found.rfind(_PIXELS) :]
    found = found.lower()
    return any(mark in found for mark in _MARKS)


def _segments(head: bytes) -> set[int] | None:
    """The markers of the segments before a JPEG's pixels.

    Args:
        head: The beginning of a file.

    Returns:
        The markers. None: the file is no plain JPEG, or its pixels begin later.
    """
    found: set[int] = set()
    at = len(_JPEG)
    while head.startswith(_JPEG) and at + 4 <= len(head):
        lead, marker, high, low = head[at : at + 4]
        length = high << 8 | low  # with its own two bytes
        if lead != 0xFF or marker not in _SEGMENTS or length < 2:
            return None
        if marker == _SCAN:
            return found
        found.add(marker)
        at += 2 + length
    return None
