"""What was published of each method beside what it gained here: a table of docs/results/index.md.

``benchmarks/results.py`` writes it. ``docs/methods/published.yaml`` has what papers report, the
reports in ``docs/results`` what was measured, and the files in ``comparisons`` which method a row
trains with.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from limbeck.commands.recipes import find
from limbeck.comparison import read_comparison
from limbeck.comparison.rows import PLAIN
from limbeck.names import in_markdown
from limbeck.recipe import laid_over, value_at
from limbeck.report.findings import Compared, Contrast, Findings
from limbeck.report.page.markdown import table_of_markdown
from limbeck.report.table import MISSING

HEADS = (
    "method",
    "published gain",
    "published on",
    "gain here at equal steps",
    "at equal time",
    "measured on",
    "share of the published steps",
)


def published_table(docs: Path, comparisons: Path, reports: Mapping[str, Findings]) -> str:
    """One line for each method and each comparison that has it alone, beside what was published.

    Args:
        docs: The folder of the documentation.
        comparisons: The folder of the comparisons.
        reports: The findings by the names of their comparisons.

    Returns:
        The table. A method without a finished comparison has one line that says so.
    """
    rows = yaml.safe_load((docs / "methods/published.yaml").read_text(encoding="utf-8"))
    first = {row["method"]: row for row in reversed(rows)}  # the first one of each method
    ours: dict[str, list[list[str]]] = {}
    for name, findings in reports.items():
        methods = methods_of(comparisons / f"{name}.yaml")
        for row in findings.rows:
            if row.name in methods and methods[row.name] in first:
                published = first[methods[row.name]]
                line = _measured(name, findings, row, published["steps"])
                ours.setdefault(methods[row.name], []).append(line)
    lines = [
        [in_markdown(method), *_stated(first[method]), *line]
        for method in dict.fromkeys(row["method"] for row in rows)
        for line in ours.get(method, [["not over several seeds yet", MISSING, MISSING, MISSING]])
    ]
    return f"{table_of_markdown(HEADS, lines)}\n"


def methods_of(comparison: Path) -> dict[str, str]:
    """Which method each row of a comparison trains with, where it is a single one and whole.

    Args:
        comparison: The file.

    Returns:
        By the name of the row, the method as ``docs/methods/published.yaml`` calls it. A row that
        takes over weights of the teacher is left out, as a part of its gain is theirs, and so is an
        assist of HEAD without what the teacher says.
    """
    found = {}
    for name, recipes in read_comparison(comparison, find).rows.items():
        row = laid_over(recipes)
        stated = list((value_at(row, "model.methods") or {}).values())
        if len(stated) == 1 and not value_at(row, "model.transfer") and _is_whole(stated[0]):
            found[name] = _named(stated[0])
    return found


def _is_whole(method: Mapping[str, Any]) -> bool:
    arguments = method.get("init_args") or {}
    return all(arguments.get(part, part) is not None for part in ("akd", "ckd"))


def _named(method: Mapping[str, Any]) -> str:
    name = str(method["class_path"]).rpartition(".")[2]
    standardised = (method.get("init_args") or {}).get("standardise", False)
    return f"{name} on standardised logits" if standardised else name


def _stated(row: Mapping[str, Any]) -> Iterator[str]:
    sign = -1 if "error" in row["score"][0] else 1
    gain = sign * (row["distilled"][0] - row["plain"][0])
    over = f" over {row['over']}" if "over" in row else ""
    yield f"{gain:+.2f}{over}"
    yield f"{row['row']}, {row['score'][0]}"


def contrast_with(control: str, row: Compared, findings: Findings) -> Contrast | None:
    """The difference between a row and a control; None: there is none."""
    pair = row.name, control
    return next((c for c in findings.contrasts if (c.row, c.control) == pair), None)


def at_equal_time(row: Compared, findings: Findings) -> Contrast | None:
    """The difference between a row and the plain student that was trained for as long."""
    begun = f"{PLAIN}, time of "  # and the rows that share it
    found = (c for c in findings.contrasts if c.row == row.name and c.control.startswith(begun))
    return next(found, None)


def _measured(name: str, findings: Findings, row: Compared, steps: int) -> list[str]:
    contrasts = contrast_with(PLAIN, row, findings), at_equal_time(row, findings)
    shown = [f"{100 * c.mean:+.2f}: {c.verdict}" if c else MISSING for c in contrasts]
    where = f"[{in_markdown(findings.title)}]({name}/report.md), {in_markdown(row.name)}"
    taken = row.runs[0].steps
    return [*shown, where, MISSING if taken is None else f"{taken / steps:.1%}"]
