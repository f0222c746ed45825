"""The report of a comparison: a page that can be mailed, the same as Markdown, and as JSON."""

from collections.abc import Sequence
from pathlib import Path

from limbeck.report.findings import Findings
from limbeck.report.page.contents import as_json
from limbeck.report.page.gallery import Images
from limbeck.report.page.html import as_html
from limbeck.report.page.markdown import as_markdown
from limbeck.report.page.method_pictures import MethodPicture
from limbeck.report.page.shown import gather

__all__ = ["Images", "MethodPicture", "write_report"]


def write_report(
    findings: Findings,
    data: Images,
    folder: Path,
    pictures: Sequence[MethodPicture] = (),
) -> None:
    """Write ``report.html``, ``report.md`` and ``report.json``.

    Args:
        findings: What a comparison has found. At least one row is a teacher, a plain or a distilled
            student with a run.
        data: The images that its rows are scored on, in the order of their predictions.
        folder: The folder of the three files. It is made if it is not there.
        pictures: Pictures of what methods see.

    Raises:
        ValueError: No row can be shown, or predictions are not of these images.
    """
    shown = gather(findings, data)
    written = {
        "report.json": as_json(findings, shown, folder),
        "report.md": as_markdown(findings, shown),
        "report.html": as_html(findings, shown, data, pictures),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
