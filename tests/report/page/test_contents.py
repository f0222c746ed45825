import json
from dataclasses import replace

from limbeck.report.page.contents import as_json
from limbeck.report.page.shown import gather


def test_findings_are_whole_and_what_is_measured_anew_stands_apart(detection, tmp_path):
    findings = detection.findings
    shown = gather(findings, detection.data)
    read = json.loads(as_json(findings, shown, tmp_path))
    assert read["findings"]["contrasts"][0]["verdict"] == findings.contrasts[0].verdict
    run = read["findings"]["rows"][1]["runs"][0]
    assert run["scores"] == findings.rows[1].runs[0].scores
    assert (tmp_path / run["predictions"]).resolve() == findings.rows[1].runs[0].predictions
    assert not {"seconds", "peak_memory_mib"} & run.keys()
    assert read["measured"]["plain"]["latency_ms"] == 24.0
    assert read["measured"]["plain"]["runs"][1]["seconds"] == 710.0
    assert len(read["shown"]["gallery"]["cards"]) == len(shown.gallery.cards)


def test_another_time_changes_nothing_else(detection, tmp_path):
    shown = gather(detection.findings, detection.data)
    row = detection.findings.rows[1]
    runs = [replace(run, seconds=1.0, peak_memory_mib=2.0) for run in row.runs]
    slower = replace(row, runs=runs, cost=replace(row.cost, latency_ms=99.0))
    rows = [slower if each is row else each for each in detection.findings.rows]
    first, second = (
        json.loads(as_json(findings, shown, tmp_path))
        for findings in (detection.findings, replace(detection.findings, rows=rows))
    )
    assert first.pop("measured") != second.pop("measured")
    assert first == second


def test_numbers_that_json_does_not_have(detection, tmp_path):
    row = detection.findings.rows[0]
    runs = [replace(row.runs[0], scores={"AP": float("nan")})]
    findings = replace(detection.findings, rows=[replace(row, runs=runs)])
    shown = gather(detection.findings, detection.data)
    read = json.loads(as_json(findings, shown, tmp_path))
    assert read["findings"]["rows"][0]["runs"][0]["scores"] == {"AP": None}
