from dataclasses import replace

import pytest

from limbeck.report.page.verdict import sentence


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (("BEATS", "BEATS"), "beats all of its 2 controls"),
        (("DOES NOT BEAT", "DOES NOT BEAT"), "does not beat any of its 2 controls"),
        (
            ("INCONCLUSIVE", "BEATS"),
            "beats “plain, time of kd”; is inconclusive against “plain”",
        ),
    ],
)
def test_sentences(detection, verdicts, expected):
    kd = next(row for row in detection.findings.rows if row.name == "kd")
    of_kd = [each for each in detection.findings.contrasts if each.row == "kd"]
    made = [replace(each, verdict=v) for each, v in zip(of_kd, verdicts, strict=True)]
    assert sentence(kd, replace(detection.findings, contrasts=made)) == expected
    assert sentence(kd, replace(detection.findings, contrasts=())) == "was compared with no control"
