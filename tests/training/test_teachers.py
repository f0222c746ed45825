"""A run that learns from several teachers, in Python: what is measured, and how it goes on."""

from pathlib import Path

import pytest

from limbeck.methods import FeatureCosine, FitNet
from limbeck.models import FeatureTeacher
from limbeck.training.module import DistillationModule
from tests import observation, tiny_models, tiny_vits
from tests.training import tiny_runs


def module(*, predicts: bool = True) -> DistillationModule:
    """A detector that learns from a vision transformer, and maybe from another detector."""
    teachers = {"dino": FeatureTeacher(tiny_vits.of_timm())}
    methods = {"directions": FeatureCosine({"P4": "grid.1"}, teacher="dino")}
    if predicts:
        teachers |= {"detector": tiny_models.detector(1)}
        methods |= {"hint": FitNet(["fpn"], teacher="detector")}
    return DistillationModule(
        tiny_models.detector(),
        methods=methods,
        teachers=teachers,
        optimizer=tiny_runs.PLAIN_SGD,
        learning_rate=tiny_runs.STEADY,
    )


def test_a_resumed_run_gives_what_an_uninterrupted_one_gives(tmp_path: Path) -> None:
    data = tiny_runs.shapes(train=16)
    whole, parted, resumed = (module() for _ in range(3))
    tiny_runs.fit(whole, data, tmp_path, max_epochs=2)
    trainer = tiny_runs.fit(parted, data, tmp_path, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    tiny_runs.fit(resumed, data, tmp_path, checkpoint=tmp_path / "half.ckpt", max_epochs=2)
    assert resumed.pair.number == whole.pair.number == 4
    assert observation.same(*(observation.snapshot(m.pair.student) for m in (whole, resumed)))
    assert whole.scores == resumed.scores
    assert whole.scores.keys() == {"student", "teacher"}


def test_a_teacher_of_features_is_not_measured(tmp_path: Path) -> None:
    run = module(predicts=False)
    tiny_runs.fit(run, tiny_runs.shapes(train=8), tmp_path)
    assert run.measured is None
    assert run.scores.keys() == {"student"}


def test_a_teacher_of_whom_nothing_is_learnt_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    teachers = {"dino": FeatureTeacher(tiny_vits.of_timm()), "idle": tiny_models.detector(1)}
    methods = {"directions": FeatureCosine({"P4": "grid.1"}, teacher="dino")}
    run = DistillationModule(tiny_models.detector(), methods=methods, teachers=teachers)
    tiny_runs.fit(run, tiny_runs.shapes(train=8), tmp_path)
    (said,) = [line for line in caplog.messages if "model.teachers.idle is a RetinaNet" in line]
    assert "no method of model.methods learns from it" in said
