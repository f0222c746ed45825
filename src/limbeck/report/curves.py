"""Losses and scores over the steps of several runs, from the files of Lightning's CSVLogger."""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from limbeck.report.style import COLOURS, GREY, INK, PALE, as_drawn, save
from limbeck.texts import MOST_ROWS, read_text

TOTAL, WEIGHTED, SCORE = "train/total", "train/weighted/", "val/"
PANELS_A_ROW = 3
_ADVICE = "give the file as limbeck wrote it"
SMOOTHED = 1 / 20  # of a run's points are averaged into one of the line

Values = NDArray[np.float64]
Run = dict[str, tuple[Values, Values]]  # steps and values by column of the file


def plot_losses(runs: Mapping[str, Path], out: Path) -> None:
    """Draw the total loss, the validation score and every weighted term, with a line for each run.

    Losses are drawn smoothed, and faintly as they were logged. The score is the headline that a
    ``summary.json`` beside a file names; without one, the first score in alphabetical order.

    Args:
        runs: The ``metrics.csv`` of each run, by the run's name. It has a column ``step`` and
            columns ``train/total``, ``train/weighted/<term>`` and ``val/<score>``. Empty cells
            are gaps.
        out: The picture to write. Its suffix decides the format.

    Raises:
        ValueError: There is no run, or a file lacks ``step`` or ``train/total``.
    """
    if not runs:
        raise ValueError("runs is empty; expected the name and the metrics.csv of at least one run")
    read = {name: read_metrics(path) for name, path in runs.items()}
    columns = _panels(read.values(), _headlines(runs.values()))
    rows = math.ceil(len(columns) / PANELS_A_ROW)
    figure = Figure(figsize=(4 * PANELS_A_ROW, 2.8 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, PANELS_A_ROW, squeeze=False).flatten()
    last = max([1.0, *(x[-1] for run in read.values() for x, _ in run.values() if len(x))])
    for axis, column in zip(axes, columns, strict=False):
        _draw_panel(axis, column, read)
        axis.set_xlim(0, 1.02 * last)
    for axis in axes[len(columns) :]:
        axis.remove()
    lines, names = axes[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper center", ncols=4, frameon=False, fontsize=11)
    save(figure, out)


def read_metrics(path: Path) -> Run:
    """Read the curves of one ``metrics.csv``, without the cells that are empty or not finite.

    Args:
        path: A file of Lightning's CSVLogger.

    Returns:
        The steps and the values of each column, by the column's name.

    Raises:
        ValueError: The file is no table of numbers in UTF-8, or lacks ``step`` or ``train/total``.
    """
    try:
        rows = list(csv.DictReader(read_text(path, MOST_ROWS).splitlines()))
    except csv.Error as error:
        raise ValueError(f"{path} is no table ({error}); {_ADVICE}") from None
    columns = list(rows[0]) if rows else []
    for needed in ("step", TOTAL):
        if needed not in columns:
            raise ValueError(
                f"{path} has no column {needed!r}, only {columns}; expected the metrics.csv "
                "that Lightning's CSVLogger writes while limbeck trains"
            )
    try:
        return {column: _curve(rows, column) for column in columns if column != "step"}
    except (TypeError, ValueError) as error:  # a row that is torn, or a word
        raise ValueError(f"{path} has a cell that is no number ({error}); {_ADVICE}") from None


def _curve(rows: Iterable[Mapping[str, str]], column: str) -> tuple[Values, Values]:
    cells = [(row["step"], row[column]) for row in rows if row[column]]
    points = np.array(cells, dtype=np.float64).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    return points[:, 0], points[:, 1]


def _headlines(paths: Iterable[Path]) -> list[str]:
    """The columns of the scores that finished runs are judged by."""
    summaries = (path.with_name("summary.json") for path in paths)
    return [_headline(summary) for summary in summaries if summary.is_file()]


def _headline(summary: Path) -> str:
    try:
        return f"{SCORE}{json.loads(read_text(summary))['headline']}"
    except (KeyError, TypeError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{summary} names no headline ({error!r}); {_ADVICE}, or move the file away"
        ) from None


def _panels(runs: Iterable[Run], headlines: Iterable[str]) -> list[str]:
    drawn = dict.fromkeys(name for run in runs for name, (steps, _) in run.items() if len(steps))
    # Scores of a class, and of the teacher, have a further part in their names.
    others = sorted(n for n in drawn if n.startswith(SCORE) and "/" not in n.removeprefix(SCORE))
    scores = [score for score in [*headlines, *others] if score in drawn]
    return [TOTAL, *scores[:1], *(name for name in drawn if name.startswith(WEIGHTED))]


def _draw_panel(axis: Axes, column: str, runs: Mapping[str, Run]) -> None:
    is_score = column.startswith(SCORE)
    for (name, run), colour in zip(runs.items(), cycle(COLOURS), strict=False):
        steps, values = run.get(column, (np.empty(0), np.empty(0)))
        if is_score:
            axis.plot(steps, values, color=colour, marker="o", markersize=4, label=as_drawn(name))
        else:
            axis.plot(steps, values, color=colour, alpha=0.25, linewidth=0.7)
            axis.plot(steps, smooth(values), color=colour, linewidth=1.8, label=as_drawn(name))
    title = {TOTAL: "total loss"}.get(column, column.removeprefix(WEIGHTED))
    title = f"{column.removeprefix(SCORE)}, validation" if is_score else title
    axis.set_title(as_drawn(title), color=INK)
    _limit(axis, [run[column][1] for run in runs.values() if column in run])
    _dress(axis)


def smooth(values: Values) -> Values:
    """The centred moving average of a curve; towards the ends, over as many points as there are."""
    reach = round(len(values) * SMOOTHED / 2)
    window = np.ones(2 * reach + 1)
    if reach == 0:
        return values
    sums = np.convolve(values, window, mode="same")
    return sums / np.convolve(np.ones_like(values), window, mode="same")


def _limit(axis: Axes, curves: Iterable[Values]) -> None:
    """Cut off a few spikes, as at the first steps, rather than let them flatten all the rest."""
    curves = [values for values in curves if len(values)] or [np.zeros(1)]
    high = max(np.percentile(values, 98 if len(values) > 50 else 100) for values in curves)
    low = min(0.0, *(values.min() for values in curves))
    axis.set_ylim(low, high + 0.08 * (high - low or 1))


def _dress(axis: Axes) -> None:
    axis.set_xlabel("step", color=GREY)
    axis.grid(color=PALE, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(PALE)
    axis.tick_params(colors=GREY, length=0)
    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
