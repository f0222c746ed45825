"""Pictures of matrices of which some cells are chosen, such as what guides what."""

from collections.abc import Mapping
from math import ceil
from pathlib import Path

from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from torch import Tensor

from limbeck.report.style import COLOURS, INK, as_drawn, save

SIDE = 3.4  # of a matrix, in inches
MOST_IN_A_LINE = 3
_COLOURS = LinearSegmentedColormap.from_list("signed", [COLOURS[1], "#FFFFFF", COLOURS[0]])


def matrix_grid(
    matrices: Mapping[str, tuple[Tensor, Tensor]],
    names: tuple[str, str, str],
    out: Path,
    software: str | None = None,
    description: str | None = None,
) -> None:
    """Draw matrices side by side: colours for their values, a dot on each chosen cell.

    Args:
        matrices: By the title of each matrix, its values from -1 (orange) to 1 (blue), (R, C), and
            the row and the column of each chosen cell, (N, 2).
        names: What a row, a column and a value is.
        out: The picture to write. Its suffix decides the format.
        software: The program that a PNG says it is from. None: matplotlib.
        description: What a PNG says about what is seen. None: nothing.

    Raises:
        ValueError: There is no matrix.
    """
    if not matrices:
        raise ValueError("there is no matrix to draw; expected one at least")
    across = min(len(matrices), MOST_IN_A_LINE)
    down = ceil(len(matrices) / across)
    figure = Figure(figsize=(SIDE * across + 0.8, SIDE * down + 0.4), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis in axes[len(matrices) :]:
        axis.set_axis_off()
    for axis, (title, (values, chosen)) in zip(axes, matrices.items(), strict=False):
        height, width = values.shape
        pixels = values.detach().float().cpu().numpy()
        image = axis.imshow(
            pixels, cmap=_COLOURS, norm=Normalize(-1, 1), interpolation="nearest", aspect="auto"
        )
        y, x = chosen.cpu().T.tolist()
        cell = 72 * SIDE * 0.8 / max(height, width)  # in points
        axis.scatter(x, y, s=min(20.0, max(1.6, 0.6 * cell)) ** 2, color=INK, linewidths=0)
        axis.set_title(as_drawn(title), fontsize=14, color=INK)
        axis.set_xlabel(as_drawn(names[1]), fontsize=12)
        axis.set_ylabel(as_drawn(names[0]), fontsize=12)
        axis.tick_params(length=0, labelsize=10)
        axis.locator_params(integer=True, nbins=6)
    bar = figure.colorbar(image, ax=axes.tolist(), shrink=0.8, aspect=30)
    if all(values.min() >= 0 for values, _ in matrices.values()):  # as probabilities are
        bar.ax.set_ylim(0, 1)
    bar.outline.set_visible(False)
    bar.set_label(as_drawn(names[2]), fontsize=12)
    bar.ax.tick_params(length=0, labelsize=10)
    save(figure, out, software=software, description=description)
