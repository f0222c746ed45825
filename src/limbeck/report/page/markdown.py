"""``report.md``: the same as the page, in tables."""

from collections.abc import Iterator, Sequence

from limbeck.names import escaped, in_markdown
from limbeck.report.findings import Findings
from limbeck.report.page.rows import MARKS
from limbeck.report.page.sheets import (
    Sheet,
    breakdown_sheet,
    calibration_sheet,
    confusion_sheet,
    contrast_sheet,
    error_sheet,
    loss_sheet,
    progress_sheet,
    score_sheet,
    signed,
)
from limbeck.report.page.shown import Shown
from limbeck.report.page.verdict import sentence

MOST_IMAGES = 5  # of the gallery, from either end


def as_markdown(findings: Findings, shown: Shown) -> str:
    """Write the report as Markdown.

    Args:
        findings: What the comparison has found.
        shown: What the page shows beyond the findings.

    Returns:
        The text of the file.
    """
    blocks = [
        f"# {in_markdown(findings.title)}",
        *_verdict(findings),
        *(block for sheet in sheets_of(findings, shown) for block in _section(sheet)),
        *_gallery(shown),
        *_origins(findings),
    ]
    return "\n\n".join(blocks) + "\n"


def sheets_of(findings: Findings, shown: Shown) -> list[Sheet]:
    """All tables of the report that have rows, in their order."""
    details = shown.details
    classification = shown.task == "classification"
    sheets = [
        score_sheet(findings),
        contrast_sheet(findings),
        breakdown_sheet("class", f"By class: {shown.by_class.score}", shown.by_class, details),
        *(
            [breakdown_sheet("size", "By the size of objects", shown.by_size, details)]
            if shown.by_size
            else []
        ),
        confusion_sheet(details, shown.classes) if classification else error_sheet(details),
        calibration_sheet(details),
        progress_sheet(findings, shown),
        loss_sheet(findings, shown),
    ]
    return [sheet for sheet in sheets if sheet.rows]


def _verdict(findings: Findings) -> Iterator[str]:
    for row in findings.rows:
        if row.kind == "distilled":
            yield f"**{in_markdown(row.name)}** {in_markdown(sentence(row, findings))}."
    yield f"The rule: {in_markdown(findings.rule)}"
    if findings.cautions:
        yield "\n".join(f"- **Caution:** {in_markdown(text)}" for text in findings.cautions)


def _section(sheet: Sheet) -> Iterator[str]:
    yield f"## {in_markdown(sheet.title)}"
    marks = [f"{MARKS[kind].glyph} " for kind in sheet.kinds] or [""] * len(sheet.rows)
    rows = [
        [mark + row[0].text, *(cell.text for cell in row[1:])]
        for mark, row in zip(marks, sheet.rows, strict=True)
    ]
    yield table(sheet.heads, rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, in which every text is shown as it is."""
    head, *body = ([in_markdown(text) for text in line] for line in (heads, *rows))
    return table_of_markdown(head, body)


def table_of_markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are Markdown already, such as links."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _gallery(shown: Shown) -> Iterator[str]:
    gallery = shown.gallery
    cards = gallery.cards
    yield "## Images"
    yield (
        f"Images from both ends of the order by {gallery.order}. The score of a model on an image "
        f"is the {gallery.score}. report.html shows at most {len(cards)} of the {gallery.images} "
        "images."
    )
    if gallery.helped is not None:
        yield f"{gallery.helped} are better than with the plain student, {gallery.hurt} are worse."
    chosen = list(range(len(cards)))
    if len(cards) > 2 * MOST_IMAGES:
        chosen = chosen[:MOST_IMAGES] + chosen[-MOST_IMAGES:]
    kinds = list(shown.details)
    heads = ["image", "classes", *(shown.details[kind].name for kind in kinds), gallery.order]
    yield table(
        heads,
        [
            [
                str(cards[place].index),
                ", ".join(shown.classes[label] for label in cards[place].classes),
                *(f"{cards[place].scores[kind]:.3f}" for kind in kinds),
                signed(cards[place].gain),
            ]
            for place in chosen
        ],
    )


def _origins(findings: Findings) -> Iterator[str]:
    yield "## Recipes and commands"
    for row in findings.rows:
        told = [f"`{line}`" for line in map(_as_code, row.differences)]
        if row.command or told:
            yield f"**{in_markdown(row.name)}**"
        if row.command:
            yield "    " + _as_code(row.command)
        if told:
            yield "\n".join(f"- {line}" for line in told)
    if findings.provenance:
        yield "## Where the numbers are from"
        yield table(["what", "value"], [[*pair] for pair in findings.provenance.items()])


def _as_code(text: str) -> str:
    """A text in one line that ends no code: a backtick is written as an apostrophe."""
    return escaped(text).replace("`", "'")
