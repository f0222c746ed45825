"""``--predictions`` keeps what both models predict on every validation image."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from limbeck.metrics import COCOAveragePrecision, TopKAccuracy
from limbeck.metrics.predictions import Predictions
from limbeck.training.module import DistillationModule
from limbeck.training.predictions import PredictionFiles
from tests import tiny_models
from tests.commands import tiny_recipes
from tests.training import tiny_runs


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def summary() -> dict[str, float]:
    scores: dict[str, float] = json.loads((tiny_recipes.RUN / "summary.json").read_text())["scores"]
    return scores["student"]  # type: ignore[return-value]


def test_detections_give_the_scores_of_the_run() -> None:
    tiny_recipes.fit(tiny_recipes.plain(max_epochs=1), words=("--predictions", "found"))
    kept = Predictions.load(Path("found/student.safetensors"))
    assert len(kept) == 8
    assert kept.sizes.tolist() == [[64, 64]] * 8
    assert not Path("found/teacher.safetensors").exists()
    scores = kept.measured(COCOAveragePrecision(kept.classes)).compute()
    assert scores["AP"].item() == pytest.approx(summary()["AP"], abs=1e-6)


def test_logits_of_student_and_teacher_are_kept() -> None:
    plain = tiny_recipes.classifier()
    teacher = {"model": {"teacher": plain["model"]["student"]}}
    method = {"class_path": "limbeck.methods.KD", "init_args": {}}
    taught = teacher["model"] | {"methods": {"kd": method}}
    tiny_recipes.fit(plain, {"model": taught}, words=("--predictions", "found"))
    student, theirs = (
        Predictions.load(Path(f"found/{side}.safetensors")) for side in ("student", "teacher")
    )
    assert torch.equal(torch.stack(list(student.truth)), torch.stack(list(theirs.truth)))
    top1 = student.measured(TopKAccuracy(5)).compute()["top1"].item()
    assert top1 == pytest.approx(summary()["top1"], abs=1e-6)
    assert not torch.equal(student.found[0], theirs.found[0])


def test_two_batches_before_training_are_not_kept(tmp_path: Path) -> None:
    seen: list[bool] = []
    path = tmp_path / "found/student.safetensors"
    watch = tiny_runs.Watch(lambda _: seen.append(path.exists()))
    module = DistillationModule(tiny_models.classifier())
    data = tiny_runs.shapes("classification")
    tiny_runs.fit(module, data, tmp_path, watch, PredictionFiles(path.parent))
    assert not any(seen)
    assert len(Predictions.load(path)) == 8


def test_images_may_be_named_by_texts(tmp_path: Path) -> None:
    target = {"boxes": torch.rand(1, 4), "labels": torch.tensor([1]), "image_id": "a/1.png"}
    found = {**target, "scores": torch.tensor([0.5])}
    del found["image_id"]
    module = SimpleNamespace(data=SimpleNamespace(task="detection", classes=("a",)))
    state = SimpleNamespace(fn="validate")
    trainer = SimpleNamespace(world_size=1, sanity_checking=False, state=state)
    files: Any = PredictionFiles(tmp_path / "found")
    files.on_validation_start(trainer, module)
    batch = ([torch.zeros(3, 8, 8)], [target])
    files.on_validation_batch_end(trainer, module, {"student": [found]}, batch, 0)
    files.on_validation_epoch_end(trainer, module)
    (path,) = (tmp_path / "found").iterdir()
    assert Predictions.load(path).truth[0]["labels"].tolist() == [1]
