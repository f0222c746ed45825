"""The tables of docs/results/index.md come from reports, and from nothing else."""

import sys
from pathlib import Path

import pytest

from limbeck.report.page import write_report
from tests.report.page import examples

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import results

PAGE = """# Results

<!-- summary -->
<!-- /summary -->
<!-- made_up -->
earlier
<!-- /made_up -->

Written by hand.
"""


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A page, and the report of a made-up comparison."""
    example = examples.make(tmp_path / "runs", "classification", images=8, seeds=2)
    write_report(example.findings, example.data, tmp_path / "docs/results/made_up")
    (tmp_path / "docs/results/index.md").write_text(PAGE)
    return tmp_path / "docs"


def test_a_section_has_the_scores_the_differences_and_the_verdicts(docs: Path) -> None:
    assert results.write(docs, []) == ["made_up"]
    page = (docs / "results/index.md").read_text()
    assert "earlier" not in page
    assert page.endswith("<!-- /made_up -->\n\nWritten by hand.\n")
    findings = results.findings_in(docs / "results/made_up/report.json")
    for row in findings.rows:
        (line,) = (each for each in page.splitlines() if each.startswith(f"| {row.name} | 0."))
        score = sum(run.scores["top1"] for run in row.runs) / len(row.runs)
        assert f"{score:.3f}" in line
        assert row.kind == "teacher" or "11 min" in line  # as it was measured
    for contrast in findings.contrasts:
        (line,) = (
            each
            for each in page.splitlines()
            if each.startswith(f"| {contrast.row} | {contrast.control} |")
        )
        assert line.endswith(f"| {contrast.verdict} |")
        assert f"{abs(contrast.over_images[0]):.3f} to " in line
    assert findings.rule in page
    assert findings.cautions[0] in page


def test_the_summary_has_a_line_for_each_distilled_student(docs: Path) -> None:
    results.write(docs, [])
    page = (docs / "results/index.md").read_text()
    between = page.partition("<!-- summary -->")[2].partition("<!-- /summary -->")[0]
    findings = results.findings_in(docs / "results/made_up/report.json")
    distilled = [row.name for row in findings.rows if row.kind == "distilled"]
    lines = between.strip().splitlines()[2:]
    assert [line.split(" | ")[2] for line in lines] == distilled
    (plain,) = (c for c in findings.contrasts if (c.row, c.control) == (distilled[0], "plain"))
    assert f"{plain.mean:+.3f}" in lines[0]
    assert f": {plain.verdict} |" in lines[0]


def test_without_a_report_the_summary_says_so(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    index = tmp_path / "results/index.md"
    index.write_text(PAGE)
    assert results.write(tmp_path, []) == []
    between = index.read_text().partition("<!-- summary -->\n")[2].partition("<!-- /summary -->")
    assert between[0].startswith("**No comparison has been finished yet.**")


def test_the_same_report_gives_the_same_page(docs: Path) -> None:
    results.write(docs, ["made_up"])
    page = (docs / "results/index.md").read_text()
    results.write(docs, ["made_up"])
    assert (docs / "results/index.md").read_text() == page


def test_a_page_without_the_marks_is_refused_and_stays_as_it_was(docs: Path) -> None:
    (docs / "results/index.md").write_text("# Results\n")
    with pytest.raises(ValueError, match="lacks the lines <!-- made_up -->"):
        results.write(docs, [])
    assert (docs / "results/index.md").read_text() == "# Results\n"


def test_every_comparison_has_its_place_in_the_page() -> None:
    page = (results.DOCS / "results/index.md").read_text()
    comparisons = Path(__file__).parents[1] / "comparisons"
    for path in comparisons.glob("*.yaml"):
        assert results.put(page, path.stem, "") != ""
        assert f"comparisons/{path.name}" in page
