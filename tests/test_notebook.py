"""The notebook runs from top to bottom: its code, cell by cell, without Jupyter."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"
LONG = "TEACHER_STEPS, STUDENT_STEPS = 600, 200\n"
SHORT = "TEACHER_STEPS, STUDENT_STEPS = 2, 2\n"


def test_the_cells_of_the_quickstart_run_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert LONG in code[0]
    scope: dict[str, object] = {}
    for source in code:
        exec(source.replace(LONG, SHORT), scope)
    said = capsys.readouterr().out
    for name in ("teacher", "plain student", "distilled student"):
        assert f"\n{name:<18} AP50 0." in said
    assert "FitNet/fpn.0" in said
    assert (tmp_path / "predictions.png").stat().st_size > 10_000


def test_the_notebook_keeps_no_results_of_a_former_run() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
