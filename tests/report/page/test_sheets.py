from dataclasses import replace

from limbeck.report.page.sheets import (
    breakdown_sheet,
    calibration_sheet,
    confusion_sheet,
    contrast_sheet,
    error_sheet,
    loss_sheet,
    progress_sheet,
    score_sheet,
)
from limbeck.report.page.shown import gather


def cells(sheet, row: int) -> dict[str, str]:
    texts = [cell.text for cell in sheet.rows[row]]
    return dict(zip(sheet.heads, texts, strict=True))


def test_scores_and_costs(detection):
    sheet = score_sheet(detection.findings)
    plain = cells(sheet, 1)
    assert plain["row"] == "plain"
    assert plain["params (M)"] == "2.30"
    assert plain["memory (MiB)"] == "880"
    assert plain["training"] == "11 min 00 s"
    assert plain["seeds"] == "2"
    assert cells(sheet, 0)["training"] == "-"
    assert cells(sheet, 2)["lead closed"] == "50%"


def test_a_column_that_nothing_is_known_of_is_left_out(detection):
    rows = [replace(row, cost=None, share_of_lead=None) for row in detection.findings.rows]
    heads = score_sheet(replace(detection.findings, rows=rows)).heads
    assert "GFLOPs" not in heads
    assert "lead closed" not in heads
    assert "steps" in heads


def test_contrasts_have_both_intervals(detection):
    contrast = replace(
        detection.findings.contrasts[0],
        mean=-0.0125,
        by_seed={0: -0.01, 7: -0.015},
        over_images=(-0.02, 0.001),
        over_seeds=None,
    )
    row = cells(contrast_sheet(replace(detection.findings, contrasts=[contrast])), 0)
    assert row["95 % over images"] == "\N{MINUS SIGN}0.020 to +0.001"
    assert row["each seed"] == "0: \N{MINUS SIGN}0.010, 7: \N{MINUS SIGN}0.015"
    assert "95 % over seeds" not in row


def test_the_gain_by_class(detection):
    shown = gather(detection.findings, detection.data)
    sheet = breakdown_sheet("class", "By class", shown.by_class, shown.details)
    row = sheet.rows[0]
    assert sheet.heads[0] == "class"
    assert sheet.heads[-1] == "kd \N{MINUS SIGN} plain"
    assert row[-1].value == (row[4].value or 0) - (row[3].value or 0)


def test_details_of_detectors(detection):
    shown = gather(detection.findings, detection.data)
    assert "AP50 lost: kd" in error_sheet(shown.details).heads
    assert "best threshold" in calibration_sheet(shown.details).heads
    progress = cells(progress_sheet(detection.findings, shown), 1)
    assert (progress["row"], progress["seed"], progress["best"]) == ("kd", "0", "0.743")
    assert progress["step of the best"] == progress["last step"] == "1,980"
    losses = [cells(loss_sheet(detection.findings, shown), k) for k in range(3)]
    assert [loss["term"] for loss in losses] == ["student/loss", "student/loss", "kd/logits"]
    assert losses[2]["share of the gradient"] == "50%"


def test_details_of_classifiers(classification):
    shown = gather(classification.findings, classification.data)
    sheet = confusion_sheet(shown.details, shown.classes)
    assert sheet.heads == ["row", "is", "taken for", "images"]
    assert len(sheet.rows) == len(sheet.kinds) > 0
    assert "best threshold" not in calibration_sheet(shown.details).heads
