"""The tables of the report, which the page and the Markdown file share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from limbeck.names import escaped
from limbeck.report.findings import Compared, Findings, Interval, Kind
from limbeck.report.page.classes import Breakdown
from limbeck.report.page.rows import headline_of, headlines_of
from limbeck.report.page.shown import Detail, Shown
from limbeck.report.table import MISSING, aligned, duration, shown_score

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: What stands in it.
        value: The number by which its column is sorted, or None.
    """

    text: str
    value: float | None = None


Column = tuple[str, list[Cell]]  # the head and the cells


@dataclass(frozen=True)
class Sheet:
    """A table whose first column names its rows.

    Attributes:
        name: The name by which the page tells its tables apart.
        title: The title.
        heads: The heads of the columns.
        rows: The cells of each row.
        kinds: The kind of each row, which gives it a mark; empty where rows are no models.
    """

    name: str
    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    kinds: Sequence[Kind] = ()

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers."""
        return [any(c.value is not None for c in column) for column in zip(*self.rows, strict=True)]


def score_sheet(findings: Findings) -> Sheet:
    """Each row with its score, its costs, its seeds and the share of the teacher's lead."""
    rows = list(findings.rows)
    costs = [row.cost for row in rows]
    memory = [_mean(run.peak_memory_mib for run in row.runs) for row in rows]
    columns = [
        ("row", [Cell(escaped(row.name)) for row in rows]),
        (escaped(findings.headline), [_score(headline_of(row, findings)) for row in rows]),
        ("over seeds", [Cell(_range(row, findings)) for row in rows]),
        ("lead closed", [_percent(row.share_of_lead) for row in rows]),
        ("seeds", [Cell(str(len(row.runs)), len(row.runs)) for row in rows]),
        ("params (M)", _numbers([c.parameters / 1e6 if c else None for c in costs])),
        ("GFLOPs", _numbers([c.gflops if c else None for c in costs])),
        ("latency (ms)", _numbers([c.latency_ms if c else None for c in costs])),
        ("memory (MiB)", _numbers(memory)),
        ("training", [_duration(_mean(run.seconds for run in row.runs)) for row in rows]),
        ("steps", [_steps(row) for row in rows]),
    ]
    return Sheet("scores", "Scores and costs", *_turned(columns), [row.kind for row in rows])


def contrast_sheet(findings: Findings) -> Sheet:
    """Each distilled row against each control, with both intervals."""
    contrasts = findings.contrasts
    columns = [
        ("row", [Cell(escaped(c.row)) for c in contrasts]),
        ("against", [Cell(escaped(c.control)) for c in contrasts]),
        ("difference", [_signed(c.mean) for c in contrasts]),
        ("95 % over images", [Cell(interval_shown(c.over_images)) for c in contrasts]),
        ("95 % over seeds", [Cell(interval_shown(c.over_seeds)) for c in contrasts]),
        ("each seed", [Cell(_by_seed(c.by_seed)) for c in contrasts]),
        ("verdict", [Cell(c.verdict) for c in contrasts]),
    ]
    return Sheet("contrasts", "Paired differences", *_turned(columns))


def breakdown_sheet(
    name: str, title: str, shown: Breakdown, details: Mapping[Kind, Detail]
) -> Sheet:
    """A score by class or by size, with the difference that distillation makes."""
    counted = "images" if shown.score == "accuracy" else "objects"
    columns = [
        (name, [Cell(escaped(each)) for each in shown.names]),
        (counted, [Cell(f"{count:,}", count) for count in shown.counts]),
        *((escaped(row), list(map(_score, values))) for row, values in shown.values.items()),
    ]
    if {"plain", "distilled"} <= details.keys():
        ours, plain = (details[kind].name for kind in ("distilled", "plain"))
        pairs = zip(shown.values[ours], shown.values[plain], strict=True)
        gains = [None if a is None or b is None else a - b for a, b in pairs]
        columns.append((f"{escaped(ours)} {MINUS} {escaped(plain)}", list(map(_signed, gains))))
    return Sheet(f"by-{name}", title, *_turned(columns))


def error_sheet(details: Mapping[Kind, Detail]) -> Sheet:
    """What each kind of error costs each model, and how often it happens."""
    errors = next(iter(details.values())).errors
    columns = [("kind of error", [Cell(error.name) for error in errors])]
    for detail in details.values():
        name = escaped(detail.name)
        columns += [
            (f"AP50 lost: {name}", [_score(error.lost) for error in detail.errors]),
            (f"number: {name}", [Cell(f"{e.count:,}", e.count) for e in detail.errors]),
        ]
    return Sheet("errors", "Kinds of errors", *_turned(columns))


def calibration_sheet(details: Mapping[Kind, Detail]) -> Sheet:
    """The calibration error of each model and, for detectors, the best threshold."""
    shown = list(details.values())
    best = [detail.threshold for detail in shown]
    columns = [
        ("row", [Cell(escaped(detail.name)) for detail in shown]),
        ("calibration error", [_score(detail.calibration.error) for detail in shown]),
        ("best threshold", [_score(b.score if b else None) for b in best]),
        ("F1 there", [_score(b.f1 if b else None) for b in best]),
        ("precision", [_score(b.precision if b else None) for b in best]),
        ("recall", [_score(b.recall if b else None) for b in best]),
    ]
    return Sheet("calibration", "Calibration", *_turned(columns), list(details))


def confusion_sheet(details: Mapping[Kind, Detail], classes: Sequence[str]) -> Sheet:
    """The most frequent confusions of each model."""
    names, kinds = [escaped(name) for name in classes], []
    rows = []
    for kind, detail in details.items():
        for truth, taken, count in detail.confusion.pairs if detail.confusion else ():
            kinds.append(kind)
            texts = (escaped(detail.name), names[truth], names[taken])
            rows.append([*map(Cell, texts), Cell(f"{count:,}", count)])
    return Sheet(
        "pairs", "Most frequent confusions", ["row", "is", "taken for", "images"], rows, kinds
    )


def progress_sheet(findings: Findings, shown: Shown) -> Sheet:
    """How far the first run of each row came on the images held out while it was trained."""
    best_of = max if findings.higher_is_better else min
    rows, kinds = [], []
    for row in findings.rows:
        if row.name not in shown.curves or not shown.curves[row.name].score[0]:
            continue
        curves = shown.curves[row.name]
        steps, values = curves.score
        best, at = best_of(values), steps[values.index(best_of(values))]
        cells = [Cell(escaped(row.name)), Cell(str(curves.seed), curves.seed)]
        cells += [_score(values[-1]), _score(best), Cell(f"{at:,.0f}", at)]
        cells.append(Cell(f"{steps[-1]:,.0f}", steps[-1]))
        rows.append(cells)
        kinds.append(row.kind)
    heads = ["row", "seed", "at the end", "best", "step of the best", "last step"]
    return Sheet("progress", f"{escaped(findings.headline)} while training", heads, rows, kinds)


def loss_sheet(findings: Findings, shown: Shown) -> Sheet:
    """The terms of each row's loss at the end of training, and their shares of the gradient."""
    rows, kinds = [], []
    for row in findings.rows:
        curves = shown.curves.get(row.name)
        for term in curves.weighted if curves else ():
            assert curves is not None
            ends = [
                line[1][-1] if line else None
                for line in (curves.raw.get(term), curves.weighted[term])
            ]
            share = curves.shares.get(term)
            cells = [Cell(MISSING if end is None else f"{end:.4g}", end) for end in ends]
            rows.append([Cell(escaped(row.name)), Cell(escaped(term)), *cells, _percent(share)])
            kinds.append(row.kind)
    heads = ["row", "term", "raw at the end", "weighted at the end", "share of the gradient"]
    return Sheet("losses", "Terms of the losses", heads, rows, kinds)


def _turned(columns: Sequence[Column]) -> tuple[list[str], list[list[Cell]]]:
    """The heads and the rows; a column that says nothing of any row is left out."""
    told = [
        (head, cells)
        for place, (head, cells) in enumerate(columns)
        if place == 0 or not cells or any(cell.text != MISSING for cell in cells)
    ]
    rows = zip(*(cells for _, cells in told), strict=True)
    return [head for head, _ in told], [list(row) for row in rows]


def _score(value: float | None) -> Cell:
    return Cell(shown_score(value), value)


def _signed(value: float | None) -> Cell:
    return Cell(MISSING if value is None else signed(value), value)


def signed(value: float) -> str:
    """A difference with its sign, three decimals."""
    return f"{value:+.3f}".replace("-", MINUS)


def _percent(value: float | None) -> Cell:
    return Cell(MISSING if value is None else f"{value:.0%}".replace("-", MINUS), value)


def _numbers(values: Sequence[float | None]) -> list[Cell]:
    return [Cell(text, value) for text, value in zip(aligned(values), values, strict=True)]


def _duration(seconds: float | None) -> Cell:
    return Cell(duration(seconds), seconds)


def _steps(row: Compared) -> Cell:
    steps = _mean(run.steps for run in row.runs)
    return Cell(MISSING if steps is None else f"{steps:,.0f}", steps)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _range(row: Compared, findings: Findings) -> str:
    scores = headlines_of(row, findings)
    return f"{min(scores):.3f} to {max(scores):.3f}" if len(scores) > 1 else MISSING


def interval_shown(interval: Interval | None) -> str:
    """An interval from low to high, with signs, or a dash where there is none."""
    return MISSING if interval is None else f"{signed(interval[0])} to {signed(interval[1])}"


def _by_seed(differences: Mapping[int, float]) -> str:
    return ", ".join(f"{seed}: {signed(value)}" for seed, value in differences.items())
