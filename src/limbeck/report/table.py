"""One table of several models: their scores, what they cost, and how long they were trained."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from limbeck import terminal
from limbeck.names import in_markdown
from limbeck.report.cost import Cost

MISSING = "-"
LEFT = ("model", "note")  # the columns of words


@dataclass(frozen=True)
class Row:
    """One model and what was measured of it.

    Attributes:
        name: The name that the reader knows the model by.
        scores: The scores by name. They are fractions, and are shown with three decimals.
        cost: What the model costs to run, or None where that was not measured.
        train_seconds: The time that training took, in seconds, or None where it is not known.
        note: A short remark, such as the number of seeds or of steps.
    """

    name: str
    scores: Mapping[str, float]
    cost: Cost | None
    train_seconds: float | None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Models to compare; what is not known of one is shown as "-".

    Attributes:
        rows: One row for each model.
        title: The title above the table.
    """

    rows: Sequence[Row]
    title: str

    def to_rich(self) -> terminal.Table:
        """The table for the terminal."""
        table = terminal.Table(title=self.title)
        for head, _ in self._columns():
            table.add_column(head, justify="left" if head in LEFT else "right")
        for cells in self._lines():
            table.add_row(*cells)
        return table

    def to_markdown(self) -> str:
        """The table for a file; its columns line up, as people also read the file as it is."""
        columns = [list(map(in_markdown, (head, *cells))) for head, cells in self._columns()]
        widths = [max(3, *map(len, column)) for column in columns]
        sides = ["<" if column[0] in LEFT else ">" for column in columns]
        aligns = [f"{side}{width}" for side, width in zip(sides, widths, strict=True)]
        rule = [
            "-" * width if side == "<" else "-" * (width - 1) + ":"
            for side, width in zip(sides, widths, strict=True)
        ]
        head, *rows = zip(*columns, strict=True)
        lines = [_line(cells, aligns) for cells in (head, rule, *rows)]
        return "\n".join([f"## {in_markdown(self.title)}", "", *lines, ""])

    def save(self, folder: Path) -> None:
        """Write ``table.md``, and ``table.json`` with the values as they were measured.

        Args:
            folder: The folder of the two files. It is made if it is not there.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.md").write_text(self.to_markdown(), encoding="utf-8")
        rows = [asdict(row) | {"scores": _finite(row.scores)} for row in self.rows]
        content = json.dumps({"title": self.title, "rows": rows}, indent=2, ensure_ascii=False)
        (folder / "table.json").write_text(content + "\n", "utf-8", errors="backslashreplace")

    def _lines(self) -> list[list[str]]:
        return [list(cells) for cells in zip(*(c for _, c in self._columns()), strict=True)]

    def _columns(self) -> list[tuple[str, list[str]]]:
        """The head and the cells of each column."""
        costs = [row.cost for row in self.rows]
        scores = dict.fromkeys(name for row in self.rows for name in row.scores)
        notes = [row.note for row in self.rows]
        return [
            ("model", [row.name for row in self.rows]),
            *((name, [shown_score(row.scores.get(name)) for row in self.rows]) for name in scores),
            ("params (M)", aligned([c.parameters / 1e6 if c else None for c in costs])),
            ("GFLOPs", aligned([c.gflops if c else None for c in costs])),
            ("latency (ms)", aligned([c.latency_ms if c else None for c in costs])),
            ("training", [duration(row.train_seconds) for row in self.rows]),
            *([("note", notes)] if any(notes) else []),
        ]


def _line(cells: Sequence[str], aligns: Sequence[str]) -> str:
    padded = [f"{cell:{align}}" for cell, align in zip(cells, aligns, strict=True)]
    return f"| {' | '.join(padded)} |"


def shown_score(value: float | None) -> str:
    """A score with three decimals, or a dash where it is not known."""
    # COCO's metric gives -1 for what cannot be measured, VOC's NaN.
    return MISSING if value is None or math.isnan(value) or value == -1 else f"{value:.3f}"


def aligned(values: Sequence[float | None]) -> list[str]:
    """The cells of a column, all with as many decimals as give its smallest value three digits."""
    positive = [value for value in values if value]
    digits = max(0, 2 - math.floor(math.log10(min(positive)))) if positive else 0
    return [MISSING if value is None else f"{value:,.{digits}f}" for value in values]


def duration(seconds: float | None) -> str:
    """Seconds as hours, minutes and seconds, or a dash where they are not known."""
    if seconds is None:
        return MISSING
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _finite(scores: Mapping[str, float]) -> dict[str, float | None]:
    """The scores with None for NaN, which JSON does not have."""
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}
