from dataclasses import replace

import pytest

from limbeck.report.page.drawings import (
    draw_calibration,
    draw_differences,
    draw_errors,
    draw_latency,
    draw_precision,
    draw_seeds,
    draw_training,
    spread,
)
from limbeck.report.page.shown import gather


def test_every_contrast_and_row_is_named(detection):
    findings = detection.findings
    differences = draw_differences(findings)
    assert differences is not None
    assert ">kd against plain</text>" in differences.svg
    assert "kd against plain, time of kd: +" in differences.caption
    latency = draw_latency(findings)
    assert latency is not None
    for row in findings.rows:
        assert f">{row.name}</text>" in latency.svg
        assert f">{row.name}</text>" in draw_seeds(findings).svg


def test_without_contrasts_or_costs_there_is_no_chart(detection):
    rows = [replace(row, cost=None) for row in detection.findings.rows]
    bare = replace(detection.findings, contrasts=(), rows=rows)
    assert draw_differences(bare) is None
    assert draw_latency(bare) is None


def test_one_seed_has_no_interval_over_seeds(detection):
    contrasts = [replace(each, over_seeds=None) for each in detection.findings.contrasts]
    assert draw_differences(replace(detection.findings, contrasts=contrasts)) is not None


def test_charts_of_details(detection):
    shown = gather(detection.findings, detection.data)
    assert ">found twice</text>" in draw_errors(shown.details).svg
    assert "best F1" in draw_precision(shown.details).caption
    assert "expected calibration error" in draw_calibration(shown.details).caption


def test_training_over_steps_over_time_and_term_by_term(detection):
    shown = gather(detection.findings, detection.data)
    titles = [chart.title for chart in draw_training(detection.findings, shown)]
    assert titles == [
        "AP over the steps",
        "AP over the minutes of training",
        "student/loss, raw",
        "student/loss, weighted",
        "kd/logits, raw",
        "kd/logits, weighted",
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([0.0, 5.0], [0.0, 5.0]),
        ([1.0, 1.0], [0.5, 1.5]),
        ([0.0, 0.0, 0.5], [-5 / 6, 1 / 6, 7 / 6]),
        ([0.0, 1.2, 1.2], [-0.2, 0.8, 1.8]),
    ],
)
def test_labels_move_apart_as_little_as_needed(values, expected):
    assert spread(values, 1.0) == pytest.approx(expected)
