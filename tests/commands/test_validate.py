import json
from pathlib import Path

import pytest

from tests.commands import tiny
from tests.commands.conftest import Runs
from tests.commands.tiny import RUN, fit


def test_validate_shows_student_and_teacher_side_by_side(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = json.loads((runs.taught / "summary.json").read_text())["scores"]
    last = runs.taught / "checkpoints" / "last.ckpt"
    tiny.limbeck("validate", *runs.pair, "--ckpt_path", last)
    lines = capsys.readouterr().out.splitlines()
    (heads,) = (line for line in lines if "score" in line)
    assert heads.index("teacher") < heads.index("student")
    for name in ("AP", "AP50", "AP_small", "AP/ring"):
        (line,) = (line for line in lines if f" {name} " in line)
        cells = [cell.strip() for cell in line.split("│")]
        assert cells[2:4] == [f"{scores[side][name]:.3f}" for side in ("teacher", "student")]
    assert not any(Path().iterdir())  # it leaves nothing


def test_validate_measures_the_averaged_weights_of_a_checkpoint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = tiny.classifier(max_epochs=3)
    recipe["model"]["moving_average"] = 0.9
    fit(recipe)
    top1 = json.loads((RUN / "summary.json").read_text())["scores"]["student"]["top1"]
    path = tiny.write(Path("recipes"), "again", recipe)
    tiny.limbeck("validate", "--config", path, "--ckpt_path", RUN / "checkpoints" / "last.ckpt")
    assert f"│ {top1:.3f} " in capsys.readouterr().out
