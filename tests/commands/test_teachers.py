"""Several teachers through the command line: a run of them, its recipe again, and inspected."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from limbeck.models import save_student
from tests import tiny_models, tiny_vits
from tests.commands import tiny_recipes
from tests.commands.tiny_recipes import Recipe, fit, limbeck, rows

SMALL = {"embed_dim": tiny_vits.CHANNELS, "depth": tiny_vits.DEPTH, "num_heads": 2}


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """What is laid over a plain recipe to learn from a vision transformer and from a detector."""
    monkeypatch.chdir(tmp_path)
    save_student(tiny_models.detector(1), "taught")
    save_file(tiny_vits.of_timm().state_dict(), "vit.safetensors")
    network = {"network": "timm:vit_small_patch16_dinov3", "weights": "vit.safetensors"}
    dino = {
        "class_path": "limbeck.models.FeatureTeacher",
        "init_args": {**network, "arguments": SMALL},
    }
    loaded = {"class_path": "limbeck.models.load_student", "init_args": {"folder": "taught"}}
    directions = {"places": {"P4": "grid.1"}, "teacher": "dino"}
    hint = {"places": ["fpn"], "teacher": "detector"}
    return {
        "model": {
            "teachers": {"dino": dino, "detector": loaded},
            "methods": {
                "directions": {
                    "class_path": "limbeck.methods.FeatureCosine",
                    "init_args": directions,
                },
                "hint": {"class_path": "limbeck.methods.FitNet", "init_args": hint},
            },
            "transfer": {"head": "detector:head"},
        }
    }


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What is told where ``limbeck`` ends with these words."""
    capsys.readouterr()
    with pytest.raises(SystemExit):
        limbeck(*words)
    return capsys.readouterr().err


def test_a_run_with_two_teachers_is_trained_resumed_and_inspected(
    two: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tiny_recipes.plain(max_epochs=2, log_every_n_steps=1)
    fit(plain, two)
    logged = {name for row in rows(Path("run")) for name, value in row.items() if value}
    assert {"train/raw/directions/P4", "train/raw/hint/fpn.0"} <= logged
    scores = json.loads(Path("run/summary.json").read_text())["scores"]
    assert scores.keys() == {"student", "teacher"}
    state = torch.load("run/checkpoints/last.ckpt", weights_only=False)["state_dict"]
    assert not [name for name in state if "teachers." in name]
    assert state["pair._extra_state"]["teachers"].keys() == {"dino", "detector"}

    again = "fit", "--resume", "run"
    limbeck(*again)  # which is finished
    changed = "--model.teachers.dino.init_args.prefix", 4
    assert "begun with another recipe" in refused(capsys, *again, *changed)

    (path,) = Path("recipes").glob("1.yaml")
    limbeck("inspect", path, "--depth", 1)
    shown = capsys.readouterr().out
    for told in ("teacher dino: landmarks", "grid.2", "teacher detector: landmarks"):
        assert told in shown


def test_a_run_that_cannot_be_is_refused(two: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    words = "fit", "--config", tiny_recipes.write(Path(), "plain", tiny_recipes.plain())
    sides = {"image_size": 64, "patch_size": 16, "num_layers": 1, "num_heads": 1}
    network = {**sides, "hidden_dim": 8, "mlp_dim": 8, "num_classes": 5}
    bare = {"class_path": "torchvision.models.VisionTransformer", "init_args": network}
    over = {"model": two["model"] | {"teacher": bare}}
    # Of the bare one nothing is learnt, but it would be measured.
    said = refused(capsys, *words, "--config", tiny_recipes.write(Path(), "bare", over))
    assert "(VisionTransformer) was given a list of 8 images" in said
    assert "limbeck.models.FeatureTeacher" in said
    del two["model"]["methods"], two["model"]["transfer"]
    said = refused(capsys, *words, "--config", tiny_recipes.write(Path(), "idle", two))
    assert "model.teachers is given, but there are no model.methods" in said
