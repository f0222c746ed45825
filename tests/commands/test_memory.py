"""Networks that no machine can hold are told by their key, and not built."""

from pathlib import Path

import pytest

from tests.commands.tiny_recipes import RUN, Recipe, classifier, fit, limbeck, write

PATIENT = {"image_size": 32, "patch_size": 16, "num_heads": 1, "hidden_dim": 8, "mlp_dim": 8}
ABSURD: dict[str, Recipe] = {
    "a layer beyond the memory": {
        "class_path": "torchvision.models.resnet18",
        "init_args": {"num_classes": 10**12},
    },
    "a layer beyond 64 bits": {
        "class_path": "limbeck.models.BasicBlockResNet",
        "init_args": {"depths": [1], "widths": [8], "num_classes": 10**18},
    },
    "layers without end": {
        "class_path": "torchvision.models.VisionTransformer",
        "init_args": PATIENT | {"num_layers": 10**9},
    },
}


@pytest.mark.parametrize("side", ["student", "teacher"])
@pytest.mark.parametrize("name", ABSURD)
def test_a_network_that_cannot_fit_is_told_by_its_key(
    name: str, side: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limbeck.commands.memory._MOST_TENSORS", 500)
    model: Recipe = {side: ABSURD[name]}
    if side == "teacher":
        model["methods"] = {"kd": {"class_path": "limbeck.methods.KD"}}
    with pytest.raises(SystemExit):
        fit(classifier(), {"model": model})
    said = capsys.readouterr().err
    assert f"model.{side} asks for more than the " in said
    assert "Give a smaller one" in said
    assert not (RUN / "checkpoints").exists()


def test_inspect_tells_it_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write(tmp_path, "recipe", {"model": {"student": ABSURD["a layer beyond the memory"]}})
    with pytest.raises(SystemExit):
        limbeck("inspect", path)
    assert "model.student asks for more than the " in capsys.readouterr().err
