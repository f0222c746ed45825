"""The tables of docs/results/index.md, from the reports that lie in docs/results.

    python benchmarks/results.py [NAME ...] [--keep runs/NAME ...]

Reads ``docs/results/NAME/report.json``, which ``limbeck compare`` wrote, and puts its verdicts, its
scores and its paired differences between ``<!-- NAME -->`` and ``<!-- /NAME -->``. Without a name:
all reports that are there. ``<!-- summary -->`` gets a line for each distilled student of all
reports of several seeds, or a sentence that there is none, and ``<!-- published -->`` what was
published of each method beside it. No table of a comparison is typed by hand. ``--keep`` takes the
reports of finished comparisons over into ``docs/results`` before.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from limbeck.comparison.rows import PLAIN
from limbeck.names import in_markdown
from limbeck.report.cost import Cost
from limbeck.report.findings import Compared, Contrast, Findings, Trained
from limbeck.report.page.markdown import table, table_of_markdown
from limbeck.report.page.sheets import Sheet, contrast_sheet, score_sheet, signed
from limbeck.report.page.verdict import sentence
from limbeck.report.table import MISSING
from published import at_equal_time, contrast_with, published_table

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def findings_in(report: Path) -> Findings:
    """Read the findings of a ``report.json``, with what was measured on its machine."""
    content = json.loads(report.read_text(encoding="utf-8"))
    stated = content["findings"]
    rows = [_row(row, content["measured"][row["name"]]) for row in stated["rows"]]
    contrasts = [Contrast(**contrast) for contrast in stated["contrasts"]]
    return Findings(**stated | {"rows": rows, "contrasts": contrasts})


def _row(row: dict[str, Any], measured: dict[str, Any]) -> Compared:
    runs = [
        Trained(**run | times) for run, times in zip(row["runs"], measured["runs"], strict=True)
    ]
    cost = row["cost"] and Cost(**row["cost"], latency_ms=measured["latency_ms"])
    return Compared(**row | {"runs": runs, "cost": cost})


SUMMARY, PUBLISHED = "summary", "published"
NONE_YET = (
    "**No comparison has been finished yet.** Until one is, see [the appendix](early.md) and\n"
    "[When it helps](../guides/when-it-helps.md).\n"
)


def summary(reports: Mapping[str, Findings]) -> str:
    """One line for each distilled student: what it gains at equal steps, and at equal time.

    Args:
        reports: The findings by the names of their comparisons.

    Returns:
        The table; without a report a sentence that says so.
    """
    if not reports:
        return NONE_YET
    heads = ("pair", "score", "method", "at equal steps", "at equal time", "plain student")
    rows = [
        [
            f"[{in_markdown(findings.title)}]({name}/report.md)",
            in_markdown(findings.headline),
            in_markdown(row.name),
            _told(contrast_with(PLAIN, row, findings)),
            _told(at_equal_time(row, findings)),
            _learnt(findings),
        ]
        for name, findings in reports.items()
        for row in findings.rows
        if row.kind == "distilled"
    ]
    return f"{table_of_markdown(heads, rows)}\n"


def _told(contrast: Contrast | None) -> str:
    if contrast is None:
        return MISSING
    low, high = map(signed, contrast.over_images)
    return f"{signed(contrast.mean)} ({low} to {high}): {contrast.verdict}"


def _learnt(findings: Findings) -> str:
    early = any("under-trained" in caution for caution in findings.cautions)
    return "under-trained" if early else "has learnt what it can"


def _has_seeds(findings: Findings) -> bool:
    """Whether there are several seeds: one says nothing of what a method gains."""
    return any(row.kind == "plain" and len(row.runs) > 1 for row in findings.rows)


def section(name: str, findings: Findings) -> str:
    """What stands in docs/results/index.md of one comparison."""
    return "\n\n".join(_blocks(name, findings)) + "\n"


def _blocks(name: str, findings: Findings) -> Iterator[str]:
    yield f"### {in_markdown(findings.title)}"
    whole = f"[the whole report]({name}/report.md)"
    yield f"`limbeck compare comparisons/{name}.yaml`: {whole}."
    distilled = [row for row in findings.rows if row.kind == "distilled"]
    verdicts = [
        f"- **{in_markdown(r.name)}** {in_markdown(sentence(r, findings))}." for r in distilled
    ]
    cautions = [f"- Caution: {in_markdown(caution)}" for caution in findings.cautions]
    # One seed decides nothing, as the first of the cautions says.
    yield "\n".join((verdicts if _has_seeds(findings) else []) + cautions)
    for sheet in (score_sheet(findings), contrast_sheet(findings)):
        yield _table(sheet)
    yield f":::{{dropdown}} The rule\n{in_markdown(findings.rule)}\n:::"


def _table(sheet: Sheet) -> str:
    return table(sheet.heads, [[cell.text for cell in row] for row in sheet.rows])


def put(text: str, name: str, between: str) -> str:
    """Put a section between its marks.

    Args:
        text: The page.
        name: The name of the comparison.
        between: The section.

    Returns:
        The page with it.

    Raises:
        ValueError: The page has no such marks.
    """
    marks = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    before, begun, rest = text.partition(marks[0])
    _, ended, after = rest.partition(marks[1])
    if not (begun and ended):
        raise ValueError(
            f"the page lacks the lines {marks[0].strip()} and {marks[1].strip()}, one after the "
            "other. Put them where the tables are to stand."
        )
    return before + marks[0] + between + marks[1] + after


def write(docs: Path, comparisons: Path, names: list[str]) -> list[str]:
    """Write the sections of some comparisons into ``results/index.md``.

    Args:
        docs: The folder of the documentation.
        comparisons: The folder of the comparisons' files.
        names: The names of the comparisons; none: all whose report is there.

    Returns:
        The names of those that were written.
    """
    page = docs / "results" / "index.md"
    text = page.read_text(encoding="utf-8")
    there = sorted(path.parent.name for path in docs.glob("results/*/report.json"))
    for name in names or there:
        text = put(text, name, section(name, findings_in(docs / "results" / name / "report.json")))
    reports = {name: findings_in(docs / "results" / name / "report.json") for name in there}
    reports = {name: findings for name, findings in reports.items() if _has_seeds(findings)}
    text = put(text, SUMMARY, summary(reports))
    text = put(text, PUBLISHED, published_table(docs, comparisons, reports))
    page.write_text(text, encoding="utf-8")
    return names or there


def keep(output: Path, docs: Path) -> None:
    """Take a report over into the documentation, without what its page shows of single images.

    Args:
        output: The folder of the comparison, with its ``report.json`` and ``report.md``.
        docs: The folder of the documentation.
    """
    folder = docs / "results" / output.name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(output / "report.md", folder / "report.md")
    content = json.loads((output / "report.json").read_text(encoding="utf-8"))
    kept = {key: content[key] for key in ("findings", "measured")}
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    """Write, and say what was written."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="a folder of docs/results")
    parser.add_argument(
        "--keep",
        nargs="+",
        type=Path,
        default=[],
        metavar="OUTPUT",
        help="the folder of a finished comparison, whose report is taken over first",
    )
    arguments = parser.parse_args()
    for output in arguments.keep:
        keep(output, DOCS)
    written = write(DOCS, ROOT / "comparisons", arguments.names)
    said = ", ".join(written) or "there is no report in docs/results"
    print(f"{DOCS / 'results/index.md'}: {said}")


if __name__ == "__main__":
    main()
