"""Score against time: which model gives most for its milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from limbeck.report.style import COLOURS, GREY, INK, PALE, as_drawn, save

MARKERS = "osD^vPX*"
_LEAST_RANGE = 0.05  # of scores, so that differences without weight look like that


@dataclass(frozen=True)
class Point:
    """A model, run in one way.

    Attributes:
        name: The model.
        how: How it was run.
        milliseconds: The median time of a call.
        low: The lower end of the time's spread, in milliseconds.
        high: Its upper end.
        score: The model's score.
    """

    name: str
    how: str
    milliseconds: float
    low: float
    high: float
    score: float


def plot_trade_off(points: Sequence[Point], out: Path, score: str = "score") -> None:
    """Draw scores against times: a colour for each model, a marker for each way to run it.

    Args:
        points: What is drawn, one point at least.
        out: The picture. Its suffix decides the format.
        score: What the score is called.
    """
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(point.name for point in points))
    ways = list(dict.fromkeys(point.how for point in points))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    markers = {how: MARKERS[number % len(MARKERS)] for number, how in enumerate(ways)}
    for point in points:
        spread = [[point.milliseconds - point.low], [point.high - point.milliseconds]]
        axes.errorbar(
            point.milliseconds,
            point.score,
            xerr=spread,
            fmt=markers[point.how],
            color=colours[point.name],
            markersize=8,
            elinewidth=1.2,
        )
    axes.set_xscale("log")
    for formatted in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatted(ScalarFormatter())
    if max(p.milliseconds for p in points) > 10 * min(p.milliseconds for p in points):
        axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    missing = max(0.0, _LEAST_RANGE - (high - low)) / 2
    axes.set_ylim(low - missing, high + missing)
    axes.set_xlabel("ms a call: median, from the 10th to the 90th percentile", color=GREY)
    axes.set_ylabel(as_drawn(score), color=GREY)
    axes.grid(color=PALE)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    lines = [
        *(axes.plot([], [], "o", color=colours[n], label=as_drawn(n))[0] for n in names),
        *(axes.plot([], [], markers[h], color=INK, label=as_drawn(h), mfc="none")[0] for h in ways),
    ]
    figure.legend(handles=lines, loc="outside right center", frameon=False, fontsize=9)
    save(figure, out)
