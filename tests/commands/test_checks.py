"""Values of a recipe that have the right type and cannot be, through the command line."""

from typing import Any

import pytest
from jsonargparse import Namespace
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from limbeck.commands.checks import refuse_impossible, refuse_unlogged
from limbeck.commands.errors import RecipeError
from limbeck.metrics import COCOAveragePrecision
from tests.commands import tiny_recipes
from tests.commands.tiny_recipes import RUN, fit

STUDENT = "model.student.init_args"
IMPOSSIBLE = [
    ("seed_everything", True, "seed_everything is true: a seed drawn"),
    ("seed_everything", -1, "seed_everything is -1; expected a number: 0 or more, and at most 429"),
    ("seed_everything", 10**30, "seed_everything is 1000"),
    ("trainer.accelerator", "quantum", "trainer.accelerator is 'quantum'; expected one of auto"),
    ("trainer.strategy", "teamwork", "trainer.strategy is 'teamwork'; expected one of auto"),
    ("trainer.gradient_clip_algorithm", "middle", "is 'middle'; expected one of norm, value"),
    ("trainer.max_epochs", -3, "trainer.max_epochs is -3; expected a number: -1 or more. Give"),
    ("trainer.max_steps", -7, "trainer.max_steps is -7; expected"),
    ("trainer.max_time", "soon", "trainer.max_time is 'soon'; expected DD:HH:MM:SS"),
    ("trainer.devices", -3, "trainer.devices is -3; expected auto, a number"),
    ("trainer.devices", 0, "trainer.devices is 0; expected auto, a number"),
    ("trainer.devices", "all of them", "trainer.devices is 'all of them'; expected auto"),
    ("trainer.devices", [], "trainer.devices is []; expected auto"),
    ("trainer.num_nodes", 0, "trainer.num_nodes is 0; expected"),
    ("trainer.val_check_interval", 1.5, "trainer.val_check_interval is 1.5; expected a whole"),
    ("trainer.val_check_interval", -1, "trainer.val_check_interval is -1; expected"),
    ("trainer.val_check_interval", 0, "trainer.val_check_interval is 0; expected"),
    ("trainer.val_check_interval", 100, "trainer.val_check_interval is 100, and an epoch has 4"),
    ("trainer.check_val_every_n_epoch", 0, "trainer.check_val_every_n_epoch is 0; expected"),
    ("trainer.log_every_n_steps", -5, "trainer.log_every_n_steps is -5; expected"),
    ("trainer.accumulate_grad_batches", 0, "trainer.accumulate_grad_batches is 0; expected"),
    ("trainer.gradient_clip_val", -1.0, "trainer.gradient_clip_val is -1.0; expected"),
    ("trainer.limit_train_batches", 1.5, "trainer.limit_train_batches is 1.5; expected a whole"),
    ("trainer.limit_val_batches", -0.5, "trainer.limit_val_batches is -0.5; expected"),
    ("trainer.overfit_batches", 2, "Expected 0. Give trainer.limit_train_batches"),
    ("trainer.num_sanity_val_steps", -5, "trainer.num_sanity_val_steps is -5; expected"),
    ("trainer.max_epochs", -1, "set trainer.max_epochs or trainer.max_steps"),
    ("trainer", None, "trainer.max_epochs is None and trainer.max_steps -1"),
    ("model.optimizer", None, "model.optimizer is null; expected a mapping"),
    ("model.learning_rate", 3, "model.learning_rate is 3; expected a mapping"),
    ("model.optimizer.lr", -0.001, "model.optimizer.lr is -0.001; expected a number: above 0"),
    ("model.optimizer.lr", float("nan"), "model.optimizer.lr is nan; expected"),
    ("model.optimizer.momentum", 1.5, "model.optimizer.momentum is 1.5; expected"),
    ("model.learning_rate.warm_up", -5, "model.learning_rate.warm_up is -5.0; expected"),
    ("model.student_weight", -1.0, "model.student_weight is -1.0; expected"),
    ("model.teacher", tiny_recipes.detector(), "model.teacher is given, but there are no model.me"),
    ("model.transfer", {"head": "head"}, "transfer needs a teacher, and there is none. Give one"),
    (f"{STUDENT}.min_size", -64, f"{STUDENT}.min_size is -64; expected a number: 1 or more"),
    (f"{STUDENT}.std", [0.0, 0.0, 0.0], f"{STUDENT}.std is [0, 0, 0]; expected numbers"),
    (
        f"{STUDENT}.backbone",
        {"depths": [1, 1], "widths": [8, 8, 16]},
        f"{STUDENT}.backbone.depths=[1, 1] and widths=[8, 8, 16]: expected as many",
    ),
    (
        "data.augmentation",
        {"class_path": "limbeck.data.DetectionAugmentation", "init_args": {"flip": 1.5}},
        "data.augmentation.init_args.flip is 1.5; expected a number: 0 or more, and at most 1.",
    ),
]


def refused(recipe: Any, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of a recipe that is refused before it begins."""
    with pytest.raises(SystemExit) as end:
        fit(recipe)
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert not (RUN / "checkpoints").exists()
    return said


@pytest.mark.parametrize(
    ("key", "value", "message"), IMPOSSIBLE, ids=[f"{key}={value}" for key, value, _ in IMPOSSIBLE]
)
def test_what_cannot_be_is_refused_before_training(
    key: str, value: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = inner = tiny_recipes.plain()
    *outer, last = key.split(".")
    for part in outer:
        inner = inner.setdefault(part, {})
    inner[last] = value
    assert message in refused(recipe, capsys)


CALLBACKS = [
    ("StochasticWeightAveraging", {"swa_lrs": 0.01}, "Expected model.moving_average instead"),
    ("EMAWeightAveraging", {}, "Expected model.moving_average instead"),
    ("BatchSizeFinder", {}, "Expected data.batch_size instead"),
    ("LearningRateFinder", {}, "Expected model.optimizer.lr instead"),
    ("BackboneFinetuning", {}, "Expected model.optimizer.lr_factors, or the student's frozen_sta"),
    ("GradientAccumulationScheduler", {"scheduling": {0: 2}}, "trainer.accumulate_grad_batches"),
    ("EarlyStopping", {"monitor": "val/nonsense"}, "monitor is 'val/nonsense', which is not logg"),
    ("ModelCheckpoint", {"monitor": "val/nonsense"}, "Expected one of val/AP, val/AP50"),
    ("EarlyStopping", {"monitor": "val/AP"}, "mode is 'min', and val/AP is better the higher"),
    ("Timer", {"duration": "yesterday"}, "trainer.callbacks: `Timer(duration='yesterday')`"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), CALLBACKS)
def test_callbacks_that_do_not_go_with_limbeck_are_refused(
    name: str, arguments: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stated = {"class_path": f"lightning.pytorch.callbacks.{name}", "init_args": arguments}
    said = refused(tiny_recipes.plain(callbacks=[stated]), capsys)
    assert message in said
    assert name in said


def test_device_stats_need_a_logger(capsys: pytest.CaptureFixture[str]) -> None:
    stated = {"class_path": "lightning.pytorch.callbacks.DeviceStatsMonitor"}
    said = refused(tiny_recipes.plain(callbacks=[stated], logger=False), capsys)
    assert "needs a logger, and trainer.logger is false" in said


def test_what_lightning_alone_knows_is_told_as_the_recipe_s(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = refused(tiny_recipes.plain(fast_dev_run=-3), capsys)
    assert "trainer: Lightning does not take what the recipe states" in said


@pytest.mark.parametrize(
    ("key", "value"),
    [("devices", value) for value in ("auto", 1, -1, "2", "0,", "0, 1", [0], "-1")]
    + [("val_check_interval", value) for value in (1, 1.0, 0.5, 100)]
    + [("limit_val_batches", value) for value in (0, 0.0, 1.0, 7)]
    + [("accelerator", "CPU"), ("strategy", "ddp"), ("max_time", "00:12:00:00")]
    + [("max_epochs", -1), ("gradient_clip_val", None), ("num_sanity_val_steps", -1)],
)
def test_what_lightning_takes_is_taken(key: str, value: Any) -> None:
    trainer = Namespace(callbacks=None, max_epochs=1, max_steps=4, fast_dev_run=False, logger=None)
    trainer[key] = value
    model = Namespace(optimizer=Namespace(), learning_rate=Namespace())
    refuse_impossible(Namespace(seed_everything=0, trainer=trainer, model=model), "fit")


def test_callbacks_that_watch_what_is_logged_are_taken() -> None:
    metric = COCOAveragePrecision(["a"])
    refuse_unlogged([EarlyStopping("val/AP50", mode="max"), ModelCheckpoint()], metric)
    refuse_unlogged([EarlyStopping("train/total"), EarlyStopping("lr-AdamW")], metric)
    with pytest.raises(RecipeError, match="mode is 'min'"):
        refuse_unlogged([EarlyStopping("val/AP")], metric)
