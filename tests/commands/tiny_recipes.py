"""Recipes that train in a second, and the command line without its traces."""

import csv
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from limbeck.cli import main
from tests import tiny_models

Recipe = dict[str, Any]

RUN = Path("run")
TRAINER = {"accelerator": "cpu", "enable_progress_bar": False}


def detector(**changes: Any) -> Recipe:
    """A RetinaNet of 20,000 parameters on two strides."""
    arguments = tiny_models.DETECTOR | changes
    return {"class_path": "limbeck.models.RetinaNet", "init_args": arguments}


def shapes(count: int, seed: int, task: str = "detection") -> Recipe:
    """Generated images of 64 px."""
    arguments = {"task": task, "count": count, "size": 64, "seed": seed}
    return {"class_path": "limbeck.data.Shapes", "init_args": arguments}


def plain(**trainer: Any) -> Recipe:
    """A detector without a teacher: 32 images, 4 steps an epoch, 2 epochs."""
    return {
        "model": {"student": detector(), "optimizer": {"lr": 2.0e-3}},
        "data": {"train": shapes(32, 1), "val": shapes(8, 0), "batch_size": 8, "workers": 0},
        "trainer": {"max_epochs": 2} | TRAINER | trainer,
    }


def taught(teacher: Path) -> Recipe:
    """What is laid over :func:`plain` to learn from an exported teacher."""
    arguments = {"places": ["fpn"], "weight": 5.0, "normalise": True}
    fitnet = {"class_path": "limbeck.methods.FitNet", "init_args": arguments}
    folder = {"folder": str(teacher)}
    loaded = {"class_path": "limbeck.models.load_student", "init_args": folder}
    return {
        "model": {"teacher": loaded, "methods": {"fitnet": fitnet}, "transfer": {"head": "head"}}
    }


def classifier(**trainer: Any) -> Recipe:
    """A plain classifier, measured on central crops of 48 px."""
    network = {"network": tiny_models.BLOCKS, "num_classes": 5}
    return {
        "model": {"student": {"class_path": "limbeck.models.Classifier", "init_args": network}},
        "data": {
            "train": shapes(32, 1, "classification"),
            "val": shapes(16, 0, "classification"),
            "augmentation": {
                "class_path": "limbeck.data.ClassificationAugmentation",
                "init_args": {"size": 48, "scale": [0.5, 1.0]},
            },
            "batch_size": 8,
            "workers": 0,
        },
        "trainer": {"max_epochs": 1} | TRAINER | trainer,
    }


def write(folder: Path, name: str, recipe: Recipe) -> Path:
    """The recipe as a file ``<folder>/<name>.yaml``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def limbeck(*words: object) -> None:
    """``limbeck`` with these words, after which logging is as it was."""
    with logging_restored():
        main([str(word) for word in words])


@contextmanager
def logging_restored() -> Iterator[None]:
    """The command line takes over limbeck's logger; other tests listen to it."""
    ours = logging.getLogger("limbeck")
    level, handlers, propagate = ours.level, list(ours.handlers), ours.propagate
    try:
        yield
    finally:
        ours.setLevel(level)
        ours.handlers, ours.propagate = handlers, propagate


def rows(run: Path) -> list[dict[str, str]]:
    """What a run logged, one dict a line."""
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def fit(*recipes: Recipe, folder: Path = RUN, words: tuple[object, ...] = ()) -> None:
    """``limbeck fit`` of recipes, one laid over the other, into a folder."""
    paths = [write(Path("recipes"), str(i), recipe) for i, recipe in enumerate(recipes)]
    stated = [word for path in paths for word in ("--config", path)]
    limbeck("fit", *stated, "--trainer.default_root_dir", folder, *words)
