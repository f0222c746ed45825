"""The charts of the report."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes

from limbeck.report.findings import Compared, Contrast, Findings, Kind
from limbeck.report.page.calibration import Calibration
from limbeck.report.page.charts import PAPER, Chart, axes_of, chart
from limbeck.report.page.curves import Curves, Line
from limbeck.report.page.rows import MARKS, headline_of, headlines_of
from limbeck.report.page.shown import Detail, Shown
from limbeck.report.style import GREY, INK, as_drawn

DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
LABEL_ROOM = 0.075  # of the height of a chart, between two labels
_RING: dict[str, Any] = {"markersize": 5, "markerfacecolor": PAPER, "markeredgewidth": 1.3}
MOST_LABEL = 26  # characters of a row's name beside its mark


def draw_differences(findings: Findings) -> Chart | None:
    """Each contrast with both of its intervals, and a dot for each seed."""
    contrasts = list(findings.contrasts)
    if not contrasts:
        return None
    figure, axes = axes_of(0.75 + 0.5 * len(contrasts), 5.0)
    for place, contrast in enumerate(contrasts):
        _draw_contrast(axes, place, contrast)
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    _lie_down(axes, len(contrasts))
    axes.set_xlabel(as_drawn(f"difference in {findings.headline}; right of 0, the row is better"))
    caption = " ".join(
        f"{c.row} against {c.control}: {c.mean:+.4f}, over images {c.over_images[0]:+.4f} to "
        f"{c.over_images[1]:+.4f}, {c.verdict}."
        for c in contrasts
    )
    return chart("differences", "Paired differences", caption, figure)


def _draw_contrast(axes: Axes, place: int, contrast: Contrast) -> None:
    colour = MARKS["distilled"].colour
    low, high = contrast.over_images
    axes.plot([low, high], [place, place], color=colour, lw=6, alpha=0.35, solid_capstyle="butt")
    axes.plot([low, high], [place, place], "|", color=colour, markersize=9, markeredgewidth=1.6)
    if contrast.over_seeds is not None:
        axes.plot(contrast.over_seeds, [place + 0.2] * 2, color=INK, linewidth=1.4, marker="|")
    seeds = list(contrast.by_seed.values())
    axes.plot(seeds, [place] * len(seeds), "o", color=colour, **_RING)
    axes.plot([contrast.mean], [place], "o", markersize=8, color=colour)
    _label(axes, place, f"{_cut(contrast.row)} against {_cut(contrast.control)}")


def _label(axes: Axes, place: float, text: str) -> None:
    """A text above a line, from the left edge on."""
    axes.text(
        0,
        place - 0.26,
        as_drawn(text),
        transform=axes.get_yaxis_transform(),
        va="bottom",
        color=INK,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
    )


def draw_seeds(findings: Findings) -> Chart:
    """The headline of each row: a ring for each seed, and a dot for their mean."""
    scored = [(row, headline_of(row, findings)) for row in findings.rows]
    rows = [(row, middle) for row, middle in scored if middle is not None]
    figure, axes = axes_of(0.75 + 0.42 * len(rows))
    for place, (row, middle) in enumerate(rows):
        mark = MARKS[row.kind]
        scores = headlines_of(row, findings)
        axes.plot([min(scores), max(scores)], [place] * 2, color=mark.colour, linewidth=1.2)
        axes.plot(scores, [place] * len(scores), mark.marker, color=mark.colour, **_RING)
        axes.plot([middle], [place], mark.marker, color=mark.colour, markersize=8)
        _label(axes, place, _cut(row.name))
    _lie_down(axes, len(rows))
    axes.set_xlabel(as_drawn(findings.headline))
    caption = " ".join(f"{row.name}: {middle:.4f}." for row, middle in rows)
    return chart("seeds", f"{findings.headline} of each seed", caption, figure)


def _lie_down(axes: Axes, lines: int) -> None:
    """Let rows be lines, one below the other, without an axis of their own."""
    axes.set(ylim=(lines - 0.4, -0.8), yticks=[])
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def draw_latency(findings: Findings) -> Chart | None:
    """The headline of each row against the latency of its model."""
    points = [
        (row, row.cost.latency_ms, score)
        for row in findings.rows
        if row.cost is not None and (score := headline_of(row, findings)) is not None
    ]
    if not points:
        return None
    figure, axes = axes_of(max(3.2, 0.3 * len(points)), 5.0)
    most = max(latency for _, latency, _ in points)
    for row, latency, score in points:
        mark = MARKS[row.kind]
        scores = headlines_of(row, findings)
        axes.plot([latency] * len(scores), scores, mark.marker, color=mark.colour, **_RING)
        axes.plot([latency], [score], mark.marker, color=mark.colour, ms=8)
    axes.set_xlim(0, 1.75 * most)
    axes.margins(y=0.1)
    _label_points(axes, points)
    axes.set_xlabel("latency of one image, ms on one CPU thread")
    axes.set_ylabel(as_drawn(findings.headline))
    caption = " ".join(f"{row.name}: {score:.3f} at {at:.3g} ms." for row, at, score in points)
    return chart("latency", f"{findings.headline} against latency", caption, figure)


def _label_points(axes: Axes, points: Sequence[tuple[Compared, float, float]]) -> None:
    """Names to the right of the marks, so far apart that each can be read."""
    low, high = axes.get_ylim()
    ordered = sorted(points, key=lambda point: (point[2], point[1]))
    room = (high - low) * LABEL_ROOM
    places = spread([score for _, _, score in ordered], room)
    shift = 0.04 * axes.get_xlim()[1]
    for (row, latency, score), place in zip(ordered, places, strict=True):
        axes.plot([latency, latency + shift], [score, place], color=GREY, linewidth=0.6)
        axes.text(latency + 1.2 * shift, place, as_drawn(_cut(row.name)), va="center", color=INK)
    axes.set_ylim(min(low, places[0] - room), max(high, places[-1] + room))


def spread(values: Sequence[float], room: float) -> list[float]:
    """Move ascending values as little as needed for a distance of ``room`` between neighbours."""
    groups: list[list[float]] = []  # the values of each group, which lie evenly about their mean
    for value in values:
        groups.append([value])
        while len(groups) > 1 and _top(groups[-2], room) + room > _bottom(groups[-1], room):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_bottom(group, room) + room * k for group in groups for k in range(len(group))]


def _bottom(group: Sequence[float], room: float) -> float:
    return sum(group) / len(group) - room * (len(group) - 1) / 2


def _top(group: Sequence[float], room: float) -> float:
    return sum(group) / len(group) + room * (len(group) - 1) / 2


def draw_errors(details: Mapping[Kind, Detail]) -> Chart:
    """What each kind of error costs each model."""
    names = [error.name for error in next(iter(details.values())).errors]
    figure, axes = axes_of(0.7 + 0.5 * len(names))
    height = 0.8 / len(details)
    for number, (kind, detail) in enumerate(details.items()):
        places = [place + height * (number - (len(details) - 1) / 2) for place in range(len(names))]
        lost = [error.lost for error in detail.errors]
        axes.barh(places, lost, 0.85 * height, color=MARKS[kind].colour)
    axes.set(ylim=(len(names) - 0.4, -0.6), yticks=range(len(names)))
    axes.set_yticks(range(len(names)), [name.replace(" and ", "\nand ") for name in names])
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("AP50 lost to it")
    caption = " ".join(
        f"{detail.name}: " + ", ".join(f"{e.name} {e.lost:.3f}" for e in detail.errors) + "."
        for detail in details.values()
    )
    return chart("errors", "What each kind of error costs", caption, figure)


def draw_precision(details: Mapping[Kind, Detail]) -> Chart:
    """Precision by recall of all classes together, with the best threshold of each model."""
    figure, axes = axes_of(3.4)
    for kind, detail in details.items():
        mark = MARKS[kind]
        recalls = [k / 100 for k in range(len(detail.precision))]
        axes.plot(recalls, detail.precision, color=mark.colour)
        if detail.threshold is not None:
            best = detail.threshold
            axes.plot(best.recall, best.precision, mark.marker, color=mark.colour, ms=8)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel="recall", ylabel="precision")
    caption = " ".join(
        f"{d.name}: best F1 {d.threshold.f1:.3f} at a threshold of {d.threshold.score:.2f}."
        for d in details.values()
        if d.threshold is not None
    )
    return chart("precision", "Precision by recall", caption, figure)


def draw_calibration(details: Mapping[Kind, Detail]) -> Chart:
    """The share that is right by the score."""
    figure, axes = axes_of(3.4)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    for kind, detail in details.items():
        _draw_bins(axes, kind, detail.calibration)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel="score", ylabel="share that is right")
    caption = "On the dashed line, a score is the share that is right. " + " ".join(
        f"{d.name}: expected calibration error {d.calibration.error:.3f}." for d in details.values()
    )
    return chart("calibration", "Calibration", caption, figure)


def _draw_bins(axes: Axes, kind: Kind, calibration: Calibration) -> None:
    mark = MARKS[kind]
    scores = [each.confidence for each in calibration.bins]
    right = [each.right for each in calibration.bins]
    axes.plot(scores, right, color=mark.colour, marker=mark.marker, markersize=5)


def draw_training(findings: Findings, shown: Shown) -> list[Chart]:
    """The headline over steps and over time, and the losses of every term."""
    kinds = {row.name: row.kind for row in findings.rows}
    styles = _styles(findings)
    scores = {name: curves.score for name, curves in shown.curves.items() if curves.score[0]}
    charts = []
    if scores:
        charts.append(_draw_lines("score-steps", findings.headline, scores, kinds, styles, "step"))
        timed = dict(_over_time(scores, findings))
        if timed:
            charts.append(
                _draw_lines("score-time", findings.headline, timed, kinds, styles, "minutes")
            )
    for number, (term, part, lines) in enumerate(_by_term(shown.curves)):
        name, title = f"loss-{number}", f"{term}, {part}"
        charts.append(_draw_lines(name, title, lines, kinds, styles, "step"))
    return charts


def _over_time(scores: Mapping[str, Line], findings: Findings) -> Iterator[tuple[str, Line]]:
    """The lines over minutes of training, of which each step has the mean time of its run.

    The log of a run has no times, so that a resumed one is the same as one that was never ended.
    """
    for row in findings.rows:
        if row.name in scores and row.runs[0].seconds and row.runs[0].steps:
            pace = row.runs[0].seconds / row.runs[0].steps / 60
            steps, values = scores[row.name]
            yield row.name, ([step * pace for step in steps], values)


def _by_term(curves: Mapping[str, Curves]) -> Iterator[tuple[str, str, dict[str, Line]]]:
    """The lines of every row, raw and weighted, term by term."""
    for term in dict.fromkeys(term for each in curves.values() for term in each.weighted):
        for part in ("raw", "weighted"):
            lines = {name: getattr(each, part).get(term) for name, each in curves.items()}
            if any(lines.values()):
                yield term, part, {name: line for name, line in lines.items() if line}


def _styles(findings: Findings) -> dict[str, object]:
    """The dashes of each row, which tell rows of one kind apart."""
    by_kind = {row.kind: cycle(DASHES) for row in findings.rows}
    return {row.name: next(by_kind[row.kind]) for row in findings.rows}


def _draw_lines(
    name: str,
    title: str,
    lines: Mapping[str, Line],
    kinds: Mapping[str, Kind],
    styles: Mapping[str, object],
    unit: str,
) -> Chart:
    figure, axes = axes_of(2.3 + 0.1 * (len(lines) + 1))
    for row, (steps, values) in lines.items():
        mark = MARKS[kinds[row]]
        marker = mark.marker if len(steps) < 20 else ""
        axes.plot(
            steps,
            values,
            color=mark.colour,
            linestyle=styles[row],
            marker=marker,
            markersize=4,
            label=as_drawn(_cut(row)),
        )
    figure.legend(loc="outside lower left", ncols=2, frameon=False)
    axes.set_xlabel(unit)
    ends = " ".join(f"{row} ends at {line[1][-1]:.4g}." for row, line in lines.items())
    over = "over the steps" if unit == "step" else "over the minutes of training"
    return chart(name, f"{title} {over}" if name.startswith("score") else title, ends, figure)


def _cut(name: str) -> str:
    return name if len(name) <= MOST_LABEL else f"{name[: MOST_LABEL - 1]}…"
