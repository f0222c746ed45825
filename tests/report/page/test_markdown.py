import re

from limbeck.report.page.markdown import as_markdown
from limbeck.report.page.shown import gather
from tests.report.page.examples import HOSTILE


def test_all_sections(detection):
    shown = gather(detection.findings, detection.data)
    text = as_markdown(detection.findings, shown)
    titles = re.findall("^## (.*)$", text, re.MULTILINE)
    assert titles == [
        "Scores and costs",
        "Paired differences",
        "By class: average precision (COCO)",
        "By the size of objects",
        "Kinds of errors",
        "Calibration",
        "AP while training",
        "Terms of the losses",
        "Images",
        "Recipes and commands",
        "Where the numbers are from",
    ]
    assert "**kd** beats all of its 2 controls." in text
    assert "- **Caution:** The plain student is under-trained" in text
    assert "    limbeck fit --config recipes/plain.yaml --seed 0" in text


def test_classification(classification):
    shown = gather(classification.findings, classification.data)
    text = as_markdown(classification.findings, shown)
    assert "## Most frequent confusions" in text
    assert "## Kinds of errors" not in text


def test_names_do_not_break_tables(hostile):
    text = as_markdown(hostile.findings, gather(hostile.findings, hostile.data))
    assert "\u202e" not in text
    assert not re.search(r"(?<!\\)<script>", text)
    for block in text.split("\n\n"):
        if block.startswith("|"):
            columns = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(columns) == 1, block
    assert HOSTILE[2] not in text
