"""The runs of a tuning: how long they are, and on which images. They are run in commands' tests."""

from types import SimpleNamespace
from typing import Any

import pytest

from limbeck.comparison.argument import Argument
from limbeck.comparison.parts import data_of, steps_of
from limbeck.comparison.tuning import Tuning, _ranked, _score
from limbeck.recipe import Recipe, value_at
from limbeck.training.suitability import shared_images
from tests.commands import tiny_recipes


def recipe(**model: Any) -> Recipe:
    """100 images, of which 80 are trained on: 10 steps an epoch, 12 epochs."""
    stated = tiny_recipes.plain(max_epochs=12, val_check_interval=5)
    stated["data"]["train"] = tiny_recipes.shapes(100, 1)
    stated["model"] |= {
        "methods": {"m": {"class_path": "x", "init_args": {"weight": 0.5}}},
        **model,
    }
    return stated


def tuning(stated: Recipe | None = None, **more: Any) -> Tuning:
    return Tuning(stated or recipe(), Argument("m", "weight", 0.5), **more)


def test_each_round_is_half_as_long_as_the_next() -> None:
    assert tuning().shares() == [1 / 16, 1 / 8, 1 / 4]
    assert tuning(share=1.0, halvings=0).shares() == [1.0]


def test_a_run_sees_nothing_of_the_validation_set() -> None:
    run = tuning(seed=3).run(2.0, 0.25)
    assert value_at(run, "model.methods.m.init_args.weight") == 2.0
    data = data_of(run)
    assert data.train is not None
    assert (len(data.train), len(data.val)) == (80, 20)
    assert not shared_images(data)
    assert data_of(tuning(seed=4).run(2.0, 0.25)).val.indices != data.val.indices  # type: ignore[attr-defined]
    stated = [run["data"][side]["init_args"]["dataset"] for side in ("train", "val")]
    assert stated == [recipe()["data"]["train"]] * 2


def test_a_run_is_as_long_as_its_share_and_validated_at_its_end() -> None:
    run = tuning().run(2.0, 0.25)
    assert steps_of(run) == 30  # of 120
    trainer = run["trainer"]
    assert (trainer["max_steps"], trainer["val_check_interval"]) == (30, None)
    assert trainer["check_val_every_n_epoch"] > 12


@pytest.mark.parametrize(("unit", "expected"), [("epochs", [20, 28]), ("steps", [2, 3])])
def test_milestones_come_earlier(unit: str, expected: list[int]) -> None:
    rate = {"shape": "step", "milestones": [8, 11], "unit": unit}
    run = tuning(recipe(learning_rate=rate)).run(2.0, 0.25)
    assert run["model"]["learning_rate"] == {
        "shape": "step",
        "milestones": expected,
        "unit": "steps",
    }


def test_a_split_is_split_again_and_keeps_nothing_of_the_validation_set() -> None:
    stated = recipe()
    old = {"dataset": stated["data"]["val"], "side": "held_out", "share": 0.5, "seed": 9}
    stated["data"]["val"] = {"class_path": "limbeck.data.Split", "init_args": old}
    val = tuning(stated).run(2.0, 0.25)["data"]["val"]["init_args"]
    assert val == {
        "dataset": stated["data"]["train"],
        "side": "held_out",
        "share": 0.2,
        "seed": 0,
    }


def test_what_cannot_be_tuned_on_is_refused() -> None:
    stated = recipe()
    del stated["data"]["train"]
    with pytest.raises(ValueError, match=r"data\.train is missing"):
        tuning(stated).run(1.0, 0.5)
    stated = recipe()
    stated["trainer"] = {}
    with pytest.raises(ValueError, match=r"neither trainer\.max_epochs nor trainer\.max_steps"):
        tuning(stated).run(1.0, 0.5)


def test_a_score_that_is_not_defined_is_refused() -> None:
    runs = SimpleNamespace(finish=lambda _: None)
    scores = SimpleNamespace(headline="mAP", of=lambda _: {"mAP": float("nan")})
    with pytest.raises(ValueError, match="weight 1: its mAP is not defined on the held-out"):
        _score(runs, SimpleNamespace(title="weight 1"), scores)


def test_the_best_come_first_and_infinite_losses_last() -> None:
    scores = {0.5: 0.4, 0.1: None, 1.0: 0.6, 2.0: 0.4}
    assert _ranked(scores, higher_is_better=True) == [1.0, 0.5, 2.0, 0.1]
    assert _ranked(scores, higher_is_better=False) == [0.5, 2.0, 1.0, 0.1]
