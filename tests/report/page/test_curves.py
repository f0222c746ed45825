from dataclasses import replace

from limbeck.report.page.curves import MOST_POINTS, read_curves


def test_curves_of_rows_that_were_trained(detection):
    curves = read_curves(detection.findings)
    assert list(curves) == ["plain", "kd", "fitnet", "plain, time of kd"]
    kd = curves["kd"]
    assert kd.seed == 0
    assert len(kd.score[0]) == 10
    assert list(kd.raw) == list(kd.weighted) == ["student/loss", "kd/logits"]
    assert len(kd.raw["kd/logits"][0]) <= MOST_POINTS
    assert kd.raw["kd/logits"][0][-1] == 1980  # the last step is kept
    assert kd.shares == {"student/loss": 0.5, "kd/logits": 0.5}


def test_a_log_without_training_has_no_curves(detection, tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step,val/AP\n0,1,0.5\n")
    row = detection.findings.rows[1]
    runs = [replace(row.runs[0], folder=tmp_path)]
    assert read_curves(replace(detection.findings, rows=[replace(row, runs=runs)])) == {}
