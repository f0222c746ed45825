"""Pictures of what methods see, as they stand in the page."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from limbeck.data.base import open_image, to_rgb
from limbeck.report.page.gallery import as_address

MOST_BYTES = 1_000_000  # of all of them
LONGEST_SIDE = 1400  # pixels


@dataclass(frozen=True)
class MethodPicture:
    """A picture of what a method sees.

    Attributes:
        title: Whose picture it is.
        caption: What is seen, in sentences.
        path: The file.
    """

    title: str
    caption: str
    path: Path


def embedded(
    pictures: Sequence[MethodPicture],
) -> tuple[list[tuple[MethodPicture, str]], list[MethodPicture]]:
    """Put pictures into a page.

    Args:
        pictures: The pictures.

    Returns:
        Those that there is room for, each with an address that holds it, and the others.
    """
    held, left_out, size = [], [], 0
    for picture in pictures:
        address = as_address(_shrunk(picture.path))
        if size + len(address) > MOST_BYTES:
            left_out.append(picture)
        else:
            size += len(address)
            held.append((picture, address))
    return held, left_out


def _shrunk(path: Path) -> bytes:
    with open_image(path) as opened:
        picture = PIL.Image.fromarray(to_rgb(opened).permute(1, 2, 0).numpy())
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    out = io.BytesIO()
    picture.save(out, "webp", quality=80)
    return out.getvalue()
