import json
from dataclasses import replace

import pytest

from limbeck.report.page import write_report


@pytest.mark.slow
def test_the_same_bytes_each_time(detection, tmp_path):
    for name in ("first", "second"):
        write_report(detection.findings, detection.data, tmp_path / name)
    for name in ("report.html", "report.md", "report.json"):
        first, second = (tmp_path / folder / name for folder in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
    assert (
        json.loads((tmp_path / "first" / "report.json").read_text())["shown"]["task"] == "detection"
    )


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [{"teacher"}, {"plain"}, {"plain", "distilled"}])
def test_a_report_of_some_rows_alone(detection, tmp_path, kinds):
    rows = [row for row in detection.findings.rows if row.kind in kinds]
    findings = replace(detection.findings, rows=rows, contrasts=())
    write_report(findings, detection.data, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert ("Helped most" in page) == (kinds == {"plain", "distilled"})
