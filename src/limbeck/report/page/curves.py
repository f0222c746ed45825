"""How the first run of each row was trained: its score, its losses, the shares of the gradient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from limbeck.names import escaped
from limbeck.report.curves import SCORE, WEIGHTED, Run, Values, read_metrics, smooth
from limbeck.report.findings import Compared, Findings

RAW, GRADIENT = "train/raw/", "train/gradient/"
MOST_POINTS = 160  # of one line
MOST_TERMS = 24

Line = tuple[Sequence[float], Sequence[float]]  # steps and values


@dataclass(frozen=True)
class Curves:
    """The curves of the first run of a row.

    Attributes:
        seed: The seed of the run.
        score: The headline on the validation images of the training, over steps.
        raw: The loss of each term without its weight, smoothed, by the term's name.
        weighted: The loss of each term with its weight, smoothed, by the term's name.
        shares: The share of each term in the gradient, where that was logged.
    """

    seed: int | None
    score: Line
    raw: Mapping[str, Line]
    weighted: Mapping[str, Line]
    shares: Mapping[str, float]


def read_curves(findings: Findings) -> dict[str, Curves]:
    """Read the curves of all rows that were trained here, by the row's name."""
    read = {row.name: _curves(row, findings.headline) for row in findings.rows if row.runs}
    return {name: curves for name, curves in read.items() if curves is not None}


def _curves(row: Compared, headline: str) -> Curves | None:
    folder = row.runs[0].folder
    if folder is None or not (folder / "metrics.csv").is_file():
        return None
    try:
        run = read_metrics(folder / "metrics.csv")
    except ValueError:  # it was never trained, only measured
        return None
    steps, values = run.get(SCORE + escaped(headline), (np.empty(0), np.empty(0)))
    shares = {
        name.removeprefix(GRADIENT): round(float(values[-1]), 4)
        for name, (_, values) in run.items()
        if name.startswith(GRADIENT) and len(values)
    }
    return Curves(
        row.runs[0].seed,
        _thinned(steps, values),
        _terms(run, RAW),
        _terms(run, WEIGHTED),
        shares,
    )


def _terms(run: Run, prefix: str) -> dict[str, Line]:
    found = {
        name.removeprefix(prefix): _thinned(steps, smooth(values))
        for name, (steps, values) in run.items()
        if name.startswith(prefix) and len(values)
    }
    return dict(list(found.items())[:MOST_TERMS])


def _thinned(steps: Values, values: Values) -> Line:
    """At most so many points of a line, with its first and its last one."""
    places = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MOST_POINTS)).round())
    chosen = places.astype(int)
    return (
        [int(step) for step in steps[chosen]],
        [float(f"{value:.6g}") for value in values[chosen]],
    )
