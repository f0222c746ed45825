"""The verdicts of a comparison on the terminal."""

from pathlib import Path

from limbeck.report.findings import Findings, Interval
from limbeck.terminal import Table, say


def show(findings: Findings, folder: Path) -> None:
    """Print the verdicts, and where the report is.

    Args:
        findings: What the comparison has found.
        folder: The folder of the report.
    """
    for caution in findings.cautions:
        say(f"Caution: {caution}")
    table = Table("row", "against", findings.headline, "95 % over images", "over seeds", "verdict")
    for each in findings.contrasts:
        intervals = map(_written, (each.over_images, each.over_seeds))
        table.add_row(each.row, each.control, f"{each.mean:+.3f}", *intervals, each.verdict)
    say(table)
    say(findings.rule)
    say(f"Written to {folder}: report.html, report.md, report.json")


def _written(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"
