"""Which rows of a comparison are shown in detail, and how each kind of row is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from limbeck.report.findings import Compared, Findings, Kind
from limbeck.report.style import COLOURS, GREY

DETAILED: tuple[Kind, ...] = ("teacher", "plain", "distilled")


@dataclass(frozen=True)
class Mark:
    """How a kind of row is drawn in every chart.

    Attributes:
        colour: The colour of its marks and lines.
        marker: The shape of its marks, as matplotlib names it.
        glyph: The shape as a character.
    """

    colour: str
    marker: str
    glyph: str


MARKS: Mapping[Kind, Mark] = {
    "teacher": Mark(COLOURS[2], "D", "◆"),
    "plain": Mark(COLOURS[1], "s", "■"),
    "control": Mark(GREY, "^", "▲"),
    "distilled": Mark(COLOURS[0], "o", "●"),
}


def headlines_of(row: Compared, findings: Findings) -> list[float]:
    """The headlines of a row's runs, without those of runs that have none."""
    return [run.scores[findings.headline] for run in row.runs if findings.headline in run.scores]


def headline_of(row: Compared, findings: Findings) -> float | None:
    """The mean of a row's headline over its runs, or None where no run has one."""
    values = headlines_of(row, findings)
    return mean(values) if values else None


def detailed_rows(findings: Findings) -> dict[Kind, Compared]:
    """The teacher, the plain student and the best distilled student, as far as they are there."""
    found: dict[Kind, Compared] = {}
    for kind in DETAILED:
        rows = [row for row in findings.rows if row.kind == kind and row.runs]
        if rows:
            found[kind] = _best(rows, findings)
    return found


def _best(rows: Sequence[Compared], findings: Findings) -> Compared:
    sign = 1 if findings.higher_is_better else -1
    scores = {id(row): headline_of(row, findings) for row in rows}
    known = [row for row in rows if scores[id(row)] is not None]
    return max(known, key=lambda row: sign * (scores[id(row)] or 0.0)) if known else rows[0]
