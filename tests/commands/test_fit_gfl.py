"""A GFL is trained, teaches another one by LD in half precision, and predicts, all by commands."""

import json
import math
from pathlib import Path

import pytest

from limbeck.models import GFL, load_student
from tests import tiny_models
from tests.commands import tiny_recipes

ARGUMENTS = {
    "backbone": tiny_models.BLOCKS,
    "num_classes": 5,
    "levels": [2, 4],
    "fpn_channels": 32,
    "head_depth": 1,
    "norm": "trained",
    "min_size": 64,
    "max_size": 64,
    "score_threshold": 0.01,
}
STUDENT = {"class_path": "limbeck.models.GFL", "init_args": ARGUMENTS}
TERMS = (
    *(f"student/{loss}" for loss in ("classification", "bbox_regression", "distribution")),
    *(f"ld/{part}" for part in ("main", "region", "classification")),
)


@pytest.mark.slow
def test_a_gfl_is_trained_teaches_and_predicts(capsys: pytest.CaptureFixture[str]) -> None:
    plain = tiny_recipes.plain(max_epochs=1, log_every_n_steps=1)
    plain["model"]["student"] = STUDENT
    tiny_recipes.fit(plain, folder=Path("teacher"))
    loaded = {
        "class_path": "limbeck.models.load_student",
        "init_args": {"folder": "teacher/student"},
    }
    ld = {"class_path": "limbeck.methods.LD", "init_args": {"divided": True}}
    over = {"model": {"teacher": loaded, "methods": {"ld": ld}, "transfer": {"head": "head"}}}
    words = ("--trainer.precision", "bf16-mixed")
    tiny_recipes.fit(plain, over, folder=Path("taught"), words=words)
    logged = [row for row in tiny_recipes.rows(Path("taught")) if row["train/total"]]
    assert len(logged) == 4
    for term in TERMS:
        values = [float(row[f"train/raw/{term}"]) for row in logged]
        assert all(math.isfinite(value) and value > 0 for value in values)
    assert isinstance(load_student("taught/student"), GFL)
    card = json.loads(Path("taught/student/student.json").read_text())
    assert card["build"]["class_path"] == "limbeck.models.GFL"
    tiny_recipes.limbeck("inspect", "taught/student")
    assert "box_maps" in capsys.readouterr().out
