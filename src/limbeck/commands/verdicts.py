"""The verdicts of a comparison on the terminal."""

from pathlib import Path

from limbeck.report.findings import Findings
from limbeck.report.page.sheets import interval_shown, signed
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
        intervals = map(interval_shown, (each.over_images, each.over_seeds))
        table.add_row(each.row, each.control, signed(each.mean), *intervals, each.verdict)
    say(table)
    say(findings.rule)
    say(f"Written to {folder}: report.html, report.md, report.json")
