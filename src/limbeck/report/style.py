"""The colours of every picture of a report, and how it is written."""

from pathlib import Path

from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its pale yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DARK_COLOURS = COLOURS[:3]  # white letters can be read on these
INK, GREY, PALE = "#222222", "#666666", "#E4E4E4"


def save(figure: Figure, out: Path, dpi: int = 150) -> None:
    """Write a figure to a file.

    Args:
        figure: The figure.
        out: The file, whose suffix decides the format. Its folder is made if it is not there.
        dpi: The number of pixels in an inch.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=dpi, facecolor="white")
