"""What a user brings along trains, is measured, exported and predicts; limbeck knows none of it."""

import json
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.io import write_png

from limbeck import landmarks
from limbeck.models import load_student
from limbeck.models.build import Build
from limbeck.training.data import DataModule
from limbeck.training.module import DistillationModule
from limbeck.training.optimization import LearningRate, Optimizer
from tests.commands.tiny_recipes import limbeck, rows
from tests.training.tiny_runs import fit

HERE = Path(__file__).parent
RECIPE = HERE / "own_package" / "recipe.yaml"


@pytest.fixture(autouse=True, scope="module")
def importable() -> Iterator[None]:
    """As PYTHONPATH would make it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        yield


@pytest.fixture(scope="module")
def run(importable: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe, through the command line: 16 steps, of two epochs."""
    folder = tmp_path_factory.mktemp("own") / "run"
    limbeck("fit", "--config", RECIPE, "--trainer.default_root_dir", folder)
    return folder


def test_a_run_is_judged_by_the_metric(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["headline"], summary["steps"]) == ("BrierScore", 16)
    assert {side: set(scores) for side, scores in summary["scores"].items()} == {
        "teacher": {"BrierScore"},
        "student": {"BrierScore"},
    }


def test_the_best_checkpoint_is_that_of_the_lowest_score(run: Path) -> None:
    scores = [float(row["val/BrierScore"]) for row in rows(run) if row["val/BrierScore"]]
    assert scores[1] < scores[0] < 0.5  # the student has learnt, so that the two differ
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=False)
    assert best["global_step"] == 16


def test_the_learning_rate_has_the_shape(run: Path) -> None:
    rates = [float(row["lr-AdamW"]) for row in rows(run) if row["lr-AdamW"]]
    falling = [0.02 * (1 - (step - 2) / 14) ** 1.5 for step in range(2, 16)]
    assert rates == pytest.approx([0.02 * 0.001, 0.02 * 0.5005, *falling])


def test_the_method_teaches_at_the_family_s_landmark(run: Path) -> None:
    import own_package

    assert list(landmarks(own_package.StripeNet(2))) == ["C2"]
    logged = [row for row in rows(run) if row["train/total"]]
    assert len(logged) == 16
    for row in logged:
        raw = float(row["train/raw/attention/attention"])
        assert float(row["train/distillation"]) == pytest.approx(0.5 * raw, abs=1e-6)


def test_a_finished_run_resumes_from_its_own_recipe(run: Path) -> None:
    before = (run / "student" / "student.safetensors").read_bytes()
    limbeck("fit", "--resume", run)
    assert (run / "student" / "student.safetensors").read_bytes() == before


def test_the_student_predicts_on_what_it_was_measured_with(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import own_package

    card = json.loads((run / "student" / "student.json").read_text())
    assert card["metadata"]["augmentation"] == {
        "class_path": "own_package.GreyImages",
        "init_args": {"flip": 0.3},
    }
    image, _ = own_package.Stripes(1)[0]
    write_png(image, str(tmp_path / "0.png"))
    with chdir(tmp_path):
        limbeck("predict", run / "student", "0.png", "--trust", "true")
        (found,) = json.loads(Path("predictions/predictions.json").read_text()).values()
        with pytest.raises(SystemExit):
            limbeck("predict", run / "student", "0.png")
    assert "trust" in capsys.readouterr().err
    grey = own_package.GreyImages().evaluation()(image)
    model = load_student(run / "student", trust=True)
    with torch.inference_mode():
        scores: Tensor = model(grey[None])[0].softmax(0)
    expected = {name: scores[i].item() for i, name in enumerate(own_package.Stripes.classes)}
    assert {one["class"]: one["score"] for one in found} == pytest.approx(expected, abs=1e-4)


def test_the_same_objects_train_in_python(tmp_path: Path) -> None:
    import own_package

    module = DistillationModule(
        own_package.StripeNet(2, width=4),
        own_package.StripeNet(2, width=8),
        {"attention": own_package.SpatialAttention(weight=0.5)},
        optimizer=Optimizer(lr=0.02),
        learning_rate=LearningRate(own_package.Polynomial(power=1.5), warm_up=2),
        metric=own_package.BrierScore,
    )
    module.student_build = Build("own_package.StripeNet", {"num_classes": 2, "width": 4})
    data = DataModule(
        own_package.Stripes(16),
        own_package.Stripes(64, seed=1),
        batch_size=8,
        workers=0,
        augmentation=own_package.GreyImages(),
    )
    fit(module, data, tmp_path, max_epochs=2)
    assert module.scores["student"]["BrierScore"] < 0.45
    loaded = load_student(tmp_path / "student", trust=True)
    assert all(
        torch.equal(ours, theirs)
        for ours, theirs in zip(
            loaded.state_dict().values(), module.pair.student.state_dict().values(), strict=True
        )
    )
