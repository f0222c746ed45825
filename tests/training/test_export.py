import itertools
import json
import tempfile
import time
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from limbeck.data import ClassificationAugmentation
from limbeck.models import Build, load_student
from limbeck.training.export import TrainingTime
from limbeck.training.module import DistillationModule
from limbeck.training.writing import UNWRITTEN
from tests import tiny_models
from tests.training import tiny_runs


def test_a_run_exports_the_student_and_says_how_it_was_measured(tmp_path: Path) -> None:
    data = tiny_runs.shapes("classification")
    data.augmentation = ClassificationAugmentation(size=48, scale=(0.5, 1.0))
    module = DistillationModule(tiny_models.classifier())
    tiny_runs.fit(module, data, tmp_path)
    card = json.loads((tmp_path / "student" / "student.json").read_text())
    assert card["metadata"]["task"] == "classification"
    assert card["metadata"]["augmentation"] == {
        "class_path": "limbeck.data.ClassificationAugmentation",
        "init_args": {
            "size": 48,
            "scale": [0.5, 1.0],
            "flip": 0.5,
            "jitter": 0.0,
            "resize": None,
            "padding": 0,
        },
    }
    loaded = load_student(tmp_path / "student")
    assert loaded.classes == data.classes
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(loaded(images), module.pair.student.eval()(images))

    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["scores"] == module.scores
    assert (summary["headline"], summary["steps"]) == ("top1", 4)


class Unknown(nn.Module):
    """A student whose making nobody has told."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3), nn.Flatten(2))
        self.head = nn.Linear(width, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(images).mean(2))


def test_a_student_that_could_not_be_exported_is_refused_before_it_is_trained(
    tmp_path: Path,
) -> None:
    module = DistillationModule(Unknown(width=6))
    with pytest.raises(ValueError, match="how to build Unknown is not known"):
        tiny_runs.fit(module, tiny_runs.shapes("classification"), tmp_path)
    module.student_build = Build(f"{__name__}.Unknown", {})
    with pytest.raises(ValueError, match="makes another network"):
        tiny_runs.fit(module, tiny_runs.shapes("classification"), tmp_path)
    assert module.pair.number == 0
    assert not list(tmp_path.iterdir())

    module.student_build = Build(f"{__name__}.Unknown", {"width": 6})
    tiny_runs.fit(module, tiny_runs.shapes("classification"), tmp_path)
    assert isinstance(load_student(tmp_path / "student", trust=True), Unknown)


def test_a_disk_without_room_for_temporary_files_costs_the_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/none")
    module = DistillationModule(tiny_models.classifier())
    tiny_runs.fit(module, tiny_runs.shapes("classification"), tmp_path, max_steps=1)
    assert not UNWRITTEN
    load_student(tmp_path / "student")


def test_a_torchvision_student_is_exported_from_python_too(tmp_path: Path) -> None:
    arguments = {"num_classes": 5}
    module = DistillationModule(torchvision.models.shufflenet_v2_x0_5(**arguments))
    module.student_build = Build("torchvision.models.shufflenet_v2_x0_5", arguments)
    tiny_runs.fit(module, tiny_runs.shapes("classification"), tmp_path, max_steps=2)
    loaded = load_student(tmp_path / "student").state_dict()
    trained = module.pair.student.state_dict()
    assert all(torch.equal(loaded[name], trained[name]) for name in trained)


def test_training_time_is_that_of_training_batches_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on by a second whenever it is looked at."""
    clock = itertools.count()
    monkeypatch.setattr(time, "process_time", lambda: next(clock))
    module = DistillationModule(tiny_models.classifier(), learning_rate=tiny_runs.STEADY)
    (timing,) = (c for c in module.companions if isinstance(c, TrainingTime))
    trainer = tiny_runs.fit(module, tiny_runs.shapes("classification"), tmp_path)
    assert timing.cpu == 4  # a second for each of 4 batches, none for validation
    assert timing.wall > 0
    trainer.validate(module, tiny_runs.shapes("classification"), verbose=False)
    assert timing.cpu == 4
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["training_seconds"] == {"wall": timing.wall, "cpu": 4}

    trainer.save_checkpoint(tmp_path / "a.ckpt")
    resumed = DistillationModule(tiny_models.classifier(), learning_rate=tiny_runs.STEADY)
    path = tmp_path / "a.ckpt"
    tiny_runs.fit(
        resumed, tiny_runs.shapes("classification"), tmp_path, max_epochs=2, checkpoint=path
    )
    (timing,) = (c for c in resumed.companions if isinstance(c, TrainingTime))
    assert timing.cpu == 8
