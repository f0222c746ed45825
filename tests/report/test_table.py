import io
import json
import math

import pytest
from rich.console import Console

from limbeck.report import Cost, Row, Table

ROWS = [
    Row("teacher", {"AP": 0.6741, "AP50": 0.899}, Cost(803_251, 0.150, 12.34), 7384.0),
    Row("plain [0]", {"AP": 0.178, "AP50": 0.339}, Cost(110_000, 0.0301, 3.4), 31.2, "3 seeds"),
    Row("distilled", {"AP": math.nan, "AP_small": -1.0}, None, None),
]
MARKDOWN = """\
## Shapes

| model     |    AP |  AP50 | AP_small | params (M) | GFLOPs | latency (ms) |   training | note    |
| --------- | ----: | ----: | -------: | ---------: | -----: | -----------: | ---------: | ------- |
| teacher   | 0.674 | 0.899 |        - |      0.803 | 0.1500 |        12.34 | 2 h 03 min |         |
| plain [0] | 0.178 | 0.339 |        - |      0.110 | 0.0301 |         3.40 |       31 s | 3 seeds |
| distilled |     - |     - |        - |          - |      - |            - |          - |         |
"""


def test_markdown_lines_up_and_shows_what_is_missing():
    assert Table(ROWS, "Shapes").to_markdown() == MARKDOWN


def test_rich_shows_the_same_cells():
    console = Console(file=io.StringIO(), width=140)
    console.print(Table(ROWS, "Shapes").to_rich())
    text = console.file.getvalue()
    for line in MARKDOWN.splitlines()[4:]:
        for cell in line.split("|"):
            assert cell.strip() in text
    assert "plain [0]" in text


def test_notes_take_no_room_when_there_are_none():
    assert "note" not in Table(ROWS[:1], "Shapes").to_markdown()


def test_a_table_without_rows_is_its_head():
    assert Table([], "Nothing").to_markdown().splitlines()[2:] == [
        "| model | params (M) | GFLOPs | latency (ms) | training |",
        "| ----- | ---------: | -----: | -----------: | -------: |",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.9, "1 h 00 min"), (None, "-")],
)
def test_training_time_is_in_words(seconds, text):
    cells = Table([Row("a", {}, None, seconds)], "").to_markdown().splitlines()[-1].split("|")
    assert cells[-2].strip() == text


def test_decimals_fit_the_smallest_value_of_a_column():
    costs = [Cost(25_600_000, 4.1, 1234.5), Cost(0, 0.0, 56.7)]
    lines = Table([Row("a", {}, cost, None) for cost in costs], "").to_markdown().splitlines()
    assert [cell.strip() for cell in lines[-2].split("|")[2:5]] == ["25.6", "4.10", "1,234.5"]
    assert [cell.strip() for cell in lines[-1].split("|")[2:5]] == ["0.0", "0.00", "56.7"]


def test_saved_files_hold_table_and_exact_values(tmp_path):
    Table(ROWS, "Shapes").save(tmp_path / "new" / "folder")
    assert (tmp_path / "new/folder/table.md").read_text() == MARKDOWN
    content = json.loads(
        (tmp_path / "new/folder/table.json").read_text(), parse_constant=pytest.fail
    )
    assert content["title"] == "Shapes"
    teacher, plain, distilled = content["rows"]
    assert teacher["scores"] == {"AP": 0.6741, "AP50": 0.899}
    assert teacher["cost"] == {"parameters": 803_251, "gflops": 0.150, "latency_ms": 12.34}
    assert (plain["train_seconds"], plain["note"]) == (31.2, "3 seeds")
    assert distilled == {
        "name": "distilled",
        "scores": {"AP": None, "AP_small": -1.0},
        "cost": None,
        "train_seconds": None,
        "note": "",
    }


def test_names_are_cells_whatever_they_hold(tmp_path):
    scores = {"training": 0.5, "AP/x|y": 0.25}
    rows = [Row("a|b\n[/red]", scores, None, 1.0), Row("\ud800", {}, None, 1.0)]
    table = Table(rows, "A\n# B")
    console = Console(file=io.StringIO(), width=140)
    console.print(table.to_rich())
    assert "[/red]" in console.file.getvalue()
    table.save(tmp_path)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0] == "## A%0A# B"
    assert len(lines) == 6
    assert lines[4].startswith(r"| a\|b%0A[/red] |")
    assert lines[2].count("training") == 2  # a score of that name, and the column
    assert json.loads((tmp_path / "table.json").read_text())["rows"][1]["name"] == "\ud800"
