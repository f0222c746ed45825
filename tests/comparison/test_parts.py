"""What a comparison builds of a recipe itself: its data, its metric, its number of steps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from limbeck.comparison.job import scoring_of
from limbeck.comparison.parts import ScoredImages, data_of, metric_of, model_of, steps_of
from limbeck.metrics import COCOAveragePrecision, VOCAveragePrecision
from limbeck.models import Classifier
from tests import tiny_models
from tests.commands import tiny_recipes


@pytest.mark.parametrize(
    ("trainer", "steps"),
    [
        ({"max_epochs": 3}, 12),  # 32 images, 8 a batch
        ({"max_epochs": -1, "max_steps": 5}, 5),
        ({"max_epochs": 3, "max_steps": 5}, 5),
        ({"max_epochs": 3, "accumulate_grad_batches": 3}, 6),
        ({"max_epochs": 3, "limit_train_batches": 2}, 6),
        ({"max_epochs": 3, "limit_train_batches": 0.5}, 6),
        ({"max_epochs": -1}, None),
    ],
)
def test_the_steps_of_a_run(trainer: dict[str, Any], steps: int | None) -> None:
    assert steps_of(tiny_recipes.plain(**trainer)) == steps


def test_images_are_those_that_models_get() -> None:
    images = ScoredImages(data_of(tiny_recipes.classifier()))
    assert len(images) == 16
    assert images.task == "classification"
    assert images.image(3).shape == (3, 48, 48)  # the augmentation's central crop
    assert images.image(3).dtype == torch.uint8


def test_the_metric_is_the_recipes() -> None:
    plain = tiny_recipes.plain()
    assert isinstance(metric_of(plain, "detection", ("a",))(), COCOAveragePrecision)
    plain["model"]["metric"] = "voc"
    assert isinstance(metric_of(plain, "detection", ("a",))(), VOCAveragePrecision)
    arguments = {"iou_threshold": 0.75}
    own = {"class_path": "limbeck.metrics.VOCAveragePrecision", "init_args": arguments}
    plain["model"]["metric"] = own
    made = metric_of(plain, "detection", ("a",))()
    assert isinstance(made, VOCAveragePrecision)
    assert made.iou_threshold == 0.75


def test_a_model_is_built_as_it_is_stated() -> None:
    arguments = {"network": tiny_models.BLOCKS, "num_classes": 5}
    stated = {"class_path": "limbeck.models.Classifier", "init_args": arguments}
    assert isinstance(model_of(stated), Classifier)


def test_images_that_are_skipped_are_no_part_of_those_that_are_scored(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for shade in (0, 100, 200):
            Image.new("RGB", (48, 48), (shade, 0, 0)).save(tmp_path / name / f"{shade}.png")
    (tmp_path / "a/100.png").write_bytes(b"no image")
    images = {"class_path": "limbeck.data.ImageFolder", "init_args": {"root": str(tmp_path)}}
    recipe = tiny_recipes.classifier()
    recipe["data"] |= {"val": images, "train": None, "on_bad_sample": "skip"}
    scored = ScoredImages(data_of(scoring_of(recipe, recipe["model"]["student"])))
    assert len(scored) == 5
    assert [int(scored.image(k)[0, 0, 0]) for k in range(5)] == [0, 200, 0, 100, 200]
    del recipe["data"]["on_bad_sample"]
    assert len(ScoredImages(data_of(scoring_of(recipe, recipe["model"]["student"])))) == 6
