"""The colours of every picture of a report, and how it is written."""

import os
from contextlib import suppress
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from limbeck.data.base import BadSampleError, open_image
from limbeck.names import escaped
from limbeck.report.pixels import software_of

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its pale yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, GREY, PALE = "#222222", "#666666", "#E4E4E4"
LONGEST = 80  # characters of a text


def as_drawn(text: str) -> str:
    """A text in a picture, where dollars are no formula, cut where it is very long."""
    plain = escaped(text).replace("$", r"\$")
    return plain if len(plain) <= LONGEST else f"{plain[:LONGEST]}..."


def save(
    figure: Figure,
    out: Path,
    dpi: int = 150,
    software: str | None = None,
    description: str | None = None,
) -> None:
    """Write a figure to a file.

    Args:
        figure: The figure.
        out: The file, whose suffix decides the format. Its folder is made if it is not there.
        dpi: The number of pixels in an inch.
        software: The program that a PNG says it is from. None: matplotlib.
        description: What a PNG says about what is seen. None: nothing.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    told = {"Software": software, "Description": description}
    metadata = {key: text for key, text in told.items() if text} if _is_png(out) else None
    with mpl.rc_context({"svg.fonttype": "none"}):  # words stay words, which can be searched
        figure.savefig(out, dpi=dpi, facecolor="white", metadata=metadata)


def _is_png(path: Path) -> bool:
    return path.suffix.lower() == ".png"


def described(path: Path) -> str:
    """What a PNG says about what is seen, as :func:`save` has noted it; "" where nothing."""
    with suppress(BadSampleError), open_image(path) as image:
        return str(image.info.get("Description", ""))
    return ""


def is_replaceable(path: Path, software: str) -> bool:
    """Whether a picture may be written: nothing is there, or a picture that a program drew before.

    Args:
        path: The picture.
        software: The program, as :func:`save` has noted it in the file, or
            :func:`limbeck.report.pixels.write_picture`.

    Returns:
        Whether nothing is lost. A link is never replaced, as it may lead anywhere.
    """
    if not os.path.lexists(path):
        return True
    if path.is_symlink() or not path.is_file():
        return False
    with suppress(BadSampleError), open_image(path) as image:
        return software_of(image) == software
    return False
