from dataclasses import replace

from limbeck.report.page.rows import detailed_rows, headline_of


def test_the_best_distilled_row_is_shown_in_detail(detection):
    shown = detailed_rows(detection.findings)
    assert {kind: row.name for kind, row in shown.items()} == {
        "teacher": "teacher",
        "plain": "plain",
        "distilled": "kd",
    }


def test_the_best_is_the_least_where_less_is_better(detection):
    findings = replace(detection.findings, higher_is_better=False)
    assert detailed_rows(findings)["distilled"].name == "fitnet"


def test_rows_without_runs_or_headline(detection):
    findings = detection.findings
    rows = [replace(row, runs=()) if row.kind == "teacher" else row for row in findings.rows]
    assert list(detailed_rows(replace(findings, rows=rows))) == ["plain", "distilled"]
    assert headline_of(findings.rows[0], replace(findings, headline="unknown")) is None
