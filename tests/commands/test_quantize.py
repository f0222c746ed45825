"""``limbeck quantize``, and training that goes on from what it writes."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from torchvision.io import write_png

from limbeck.commands import quantize as verb
from limbeck.data import Shapes
from limbeck.models import load_student, save_student
from limbeck.models.card import read_card
from tests import tiny_models
from tests.commands import tiny_recipes
from tests.commands.conftest import Runs

OUTPUT = Path("int8")


@pytest.fixture
def images() -> Path:
    """A folder of three images."""
    Path("images").mkdir()
    for number, (image, _) in enumerate(Shapes(count=3, size=64)):
        write_png(image, f"images/{number}.png")
    return Path("images")


def quantize(runs: Runs, images: Path, *words: object) -> None:
    tiny_recipes.limbeck(
        "quantize", runs.taught / "student", images, "--output", OUTPUT, "--device", "cpu", *words
    )


def test_a_student_is_quantized_measured_and_trained_further(
    runs: Runs, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantize(runs, images, "--labelled", runs.recipe("plain"), "--batch_size", 2)
    before = read_card(runs.taught / "student")
    card = read_card(OUTPUT)
    assert card.quantization is not None
    assert "head.classification_head.cls_logits" in card.quantization.layers
    assert card.classes == before.classes
    assert card.metadata == before.metadata
    assert re.search(r"AP: 0\.\d{4} in floats, 0\.\d{4} in INT8", capsys.readouterr().err)

    loaded = {"class_path": "limbeck.models.load_student", "init_args": {"folder": str(OUTPUT)}}
    Path("int8.yaml").write_text(yaml.safe_dump({"model": {"student": loaded, "transfer": None}}))
    tiny_recipes.limbeck(
        "fit", *runs.pair, "--config", "int8.yaml", "--trainer.default_root_dir", "trained"
    )
    trained = load_student("trained/student")
    assert trained.quantization == card.quantization
    assert json.loads(Path("trained/summary.json").read_text())["steps"] == 8
    last = "head.classification_head.cls_logits.input_quantizer"
    scales = [model.get_submodule(last).scale for model in (trained, load_student(OUTPUT))]
    assert scales[0] != scales[1]


def test_layers_that_lose_most_stay_floats(
    runs: Runs, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = {"backbone.body.conv1": 0.3, "head.regression_head.bbox_reg": 0.1}

    def score(self: object, model: object, told: str) -> dict[str, float]:
        quantized = getattr(model, "quantization", None)
        rounded = [
            path
            for path in (quantized.layers if quantized else ())
            if model.get_submodule(path).input_quantizer.rounds
        ]
        return {"AP": 0.8 - sum(losses.get(path, 0.001) for path in rounded)}

    monkeypatch.setattr(verb.Measure, "__call__", score)
    quantize(runs, images, "--labelled", runs.recipe("plain"), "--drop", 0.05)
    layers = read_card(OUTPUT).quantization.layers
    assert not losses.keys() & layers.keys()
    assert "head.classification_head.cls_logits" in layers
    assert "+0.3000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--drop", "0.1"], "--drop is given without --labelled"),
        (["--keep", "[head.frist]"], "keep has 'head.frist', which is no module"),
        (["--batch_size", "0"], "--batch_size"),
    ],
)
def test_what_is_refused_leaves_nothing(
    runs: Runs, images: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        quantize(runs, images, *words)
    assert said in capsys.readouterr().err
    assert not OUTPUT.exists()


def test_an_image_that_cannot_be_read_is_named(
    runs: Runs, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "1.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit):
        quantize(runs, images)
    assert "1.png" in capsys.readouterr().err
    assert not OUTPUT.exists()


@pytest.mark.parametrize(("there", "most"), [(511, 256), (600, 256), (3, 256), (256, 256), (7, 3)])
def test_images_to_observe_are_taken_evenly_from_all(there: int, most: int) -> None:
    paths = [Path(str(number)) for number in range(there)]
    taken = [int(str(path)) for path in verb._evenly(paths, most)]
    assert len(taken) == len(set(taken)) == min(there, most)
    gaps = [after - before for before, after in pairwise([*taken, there])]
    assert max(gaps) - min(gaps) <= 1


def test_a_quantized_student_is_not_quantized_again(
    runs: Runs, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantize(runs, images)
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("quantize", OUTPUT, images, "--output", "again")
    assert "int8 is quantized already; expected floats" in capsys.readouterr().err


def test_no_student_is_replaced(
    runs: Runs, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantize(runs, images)
    before = (OUTPUT / "student.json").read_bytes()
    with pytest.raises(SystemExit):
        quantize(runs, images)
    assert "--output int8 holds student.json" in capsys.readouterr().err
    assert (OUTPUT / "student.json").read_bytes() == before


def test_a_score_that_stays_too_low_ends_in_an_error(
    runs: Runs, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = iter([0.8, *[0.1] * 100])
    monkeypatch.setattr(verb.Measure, "__call__", lambda *_: {"AP": next(scores)})
    with pytest.raises(SystemExit):
        quantize(runs, images, "--labelled", runs.recipe("plain"), "--drop", 0.05)
    assert "AP is 0.1000 with the sensitive layers in floats" in capsys.readouterr().err
    assert not OUTPUT.exists()


def test_a_classifier_s_images_of_several_sizes_are_named(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_student(tiny_models.classifier(), "student", classes=list("abcde"))
    write_png(torch.zeros(3, 40, 50, dtype=torch.uint8), "images/1.png")
    words = ["quantize", "student", images, "--output", OUTPUT, "--device", "cpu"]
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck(*words)
    assert "images/1.png is 40 x 50 px (height x width); expected images of one size" in (
        capsys.readouterr().err
    )
    tiny_recipes.limbeck(*words, "--batch_size", 1)
    assert read_card(OUTPUT).quantization is not None


def test_training_that_is_resumed_ends_where_it_would_have(
    runs: Runs, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantize(runs, images)
    loaded = {"class_path": "limbeck.models.load_student", "init_args": {"folder": str(OUTPUT)}}
    killed = {"trainer": {"callbacks": [{"class_path": "tests.commands.killing.Kill"}]}}
    Path("int8.yaml").write_text(yaml.safe_dump({"model": {"student": loaded}} | killed))
    words = ["fit", "--config", runs.recipe("plain"), "--config", "int8.yaml"]
    tiny_recipes.limbeck(*words, "--trainer.default_root_dir", "whole")
    monkeypatch.setenv("KILL", "SIGTERM@3")
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck(*words, "--trainer.default_root_dir", "stopped")
    monkeypatch.delenv("KILL")
    tiny_recipes.limbeck("fit", "--resume", "stopped")
    ours, theirs = (load_student(f"{run}/student").state_dict() for run in ("whole", "stopped"))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
