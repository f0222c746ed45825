"""``report.html``: one file that can be mailed, with its style, script, charts and pictures."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import jinja2

from limbeck.names import escaped
from limbeck.report.findings import Findings
from limbeck.report.page.charts import Chart
from limbeck.report.page.drawings import (
    draw_calibration,
    draw_differences,
    draw_errors,
    draw_latency,
    draw_precision,
    draw_seeds,
    draw_training,
)
from limbeck.report.page.gallery import Card, Images, pictures
from limbeck.report.page.markdown import sheets_of
from limbeck.report.page.method_pictures import MethodPicture, embedded
from limbeck.report.page.rows import MARKS
from limbeck.report.page.sheets import Sheet, signed
from limbeck.report.page.shown import Shown
from limbeck.report.page.verdict import sentence

MOST_BYTES = 5_000_000  # of the whole page, which is to be mailed
_HERE = files("limbeck.report.page")


def as_html(
    findings: Findings, shown: Shown, data: Images, method_pictures: Sequence[MethodPicture]
) -> str:
    """Write the report as a page.

    Args:
        findings: What the comparison has found.
        shown: What the page shows beyond the findings.
        data: The images that the rows are scored on.
        method_pictures: Pictures of what methods see.

    Returns:
        The page, which has less than 5 MB and takes nothing from the network.
    """
    values = _values(findings, shown, method_pictures)
    thumbnails = pictures(shown.gallery.cards, data)
    cards = [card for card in shown.gallery.cards if card.index in thumbnails]
    while True:
        page = _template().render(values, data=_for_script(shown, cards, thumbnails))
        if len(page.encode()) < MOST_BYTES or not cards:
            return page
        keep = len(cards) // 4  # of either end
        cards = cards[:keep] + cards[len(cards) - keep :]


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"shown": escaped, "signed": signed}
    return environment.from_string(_read("report.html.jinja"))


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _values(
    findings: Findings, shown: Shown, method_pictures: Sequence[MethodPicture]
) -> dict[str, Any]:
    """What stands in the template, beside the data of the gallery."""
    distilled = [row for row in findings.rows if row.kind == "distilled"]
    held, left_out = embedded(method_pictures)
    sheets = {sheet.name: sheet for sheet in sheets_of(findings, shown)}
    return {
        "findings": findings,
        "shown": shown,
        "style": _read("report.css"),
        "script": _read("report.js"),
        "marks": MARKS,
        "verdicts": [
            (
                row,
                sentence(row, findings),
                [contrast for contrast in findings.contrasts if contrast.row == row.name],
            )
            for row in distilled
        ],
        "sheets": sheets,
        "sections": _sections(shown, sheets, bool(method_pictures)),
        "charts": _charts(findings, shown),
        "pictures": held,
        "left_out": left_out,
    }


def _sections(shown: Shown, sheets: Mapping[str, Sheet], methods: bool) -> list[tuple[str, str]]:
    """The anchors of the sections that are there, and what they are called."""
    detection = shown.task == "detection"
    sections = {
        "scores": "Scores",
        "differences": "Differences" if "contrasts" in sheets else "",
        "classes": "Classes",
        "errors": "Errors" if detection else "Confusions",
        "calibration": "Calibration",
        "training": "Training" if shown.curves else "",
        "gallery": "Images",
        "methods": "Methods" if methods else "",
        "origins": "Origins",
    }
    return [(anchor, text) for anchor, text in sections.items() if text]


def _charts(findings: Findings, shown: Shown) -> dict[str, list[Chart]]:
    """The charts of each section."""
    details = shown.details
    detection = shown.task == "detection"
    training = draw_training(findings, shown)
    sections: dict[str, Sequence[Chart | None]] = {
        "differences": [draw_differences(findings)],
        "latency": [draw_seeds(findings), draw_latency(findings)],
        "errors": [draw_errors(details)] if detection else [],
        "calibration": [
            *([draw_precision(details)] if detection else []),
            draw_calibration(details),
        ],
        "training": [each for each in training if each.name.startswith("score")],
        "losses": [each for each in training if not each.name.startswith("score")],
    }
    return {name: [each for each in drawn if each] for name, drawn in sections.items()}


def _for_script(
    shown: Shown, cards: Sequence[Card], thumbnails: Mapping[int, str]
) -> dict[str, Any]:
    """The gallery as the page's script draws it."""
    best = [detail.threshold.score for detail in shown.details.values() if detail.threshold]
    return {
        "task": shown.task,
        "classes": [escaped(name) for name in shown.classes],
        "models": [
            {"kind": kind, "name": escaped(detail.name), "glyph": MARKS[kind].glyph}
            for kind, detail in shown.details.items()
        ],
        "threshold": round(best[-1], 2) if best else 0.05,
        "order": shown.gallery.order,
        "cards": [
            {
                "index": card.index,
                "gain": card.gain,
                "scores": card.scores,
                "size": [card.width, card.height],
                "classes": card.classes,
                "truth": card.truth,
                "found": card.found,
                "picture": thumbnails[card.index],
            }
            for card in cards
        ],
    }
