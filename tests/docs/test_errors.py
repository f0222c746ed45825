"""The page of errors: each message that it shows is raised, by the code in the comment above it."""

import json
import logging
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation, commands, data, export, exported, methods, models
from limbeck.commands.errors import of_ours, told
from limbeck.models import Build
from limbeck.training.checkpoints import WholeCheckpoints
from limbeck.training.data import DataModule
from limbeck.training.suitability import other_classes, unfit_training_set
from tests import batches, small_models, tiny_models
from tests.commands import tiny_recipes

PAGE = (Path(__file__).parents[2] / "docs/reference/errors.md").read_text()
CASES = re.findall(r"### ([^\n]+)\n\n<!-- raises:\n(.*?)-->\n```output\n(.*?)```", PAGE, re.DOTALL)


def picture(path: str) -> None:
    """A grey picture in a file."""
    Image.new("RGB", (64, 48), "grey").save(path)


def shapes(task: Any = "detection") -> data.Shapes:
    return data.Shapes(task=task, count=4, size=64)


def run(*words: str) -> None:
    """``limbeck`` with these words, whose error is raised and not logged."""
    with tiny_recipes.logging_restored():
        commands.run(words)


class Absent:
    """Among ``sys.meta_path``: a library that is not installed."""

    def __init__(self, library: str) -> None:
        self.library = library

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == self.library:
            raise ModuleNotFoundError(f"No module named {self.library!r}", name=self.library)


def message_of(code: str, names: dict[str, Any]) -> str:
    """What is told of the error that code raises; of words that do not parse it is logged."""
    logged: list[logging.LogRecord] = []
    listening = logging.Handler()
    listening.emit = logged.append  # type: ignore[method-assign]
    logging.getLogger("limbeck").addHandler(listening)
    try:
        exec(textwrap.dedent(code), names)
    except SystemExit:
        return logged[-1].getMessage()
    except Exception as error:
        ours = of_ours(error)
        if ours is None:
            raise
        return told(ours).replace(f"{Path.cwd()}/", "")
    finally:
        logging.getLogger("limbeck").removeHandler(listening)
    raise AssertionError("nothing was raised")


def fit(recipe: tiny_recipes.Recipe) -> None:
    path = tiny_recipes.write(Path(), "recipe", recipe)
    run("fit", "--config", str(path), "--trainer.default_root_dir", "run")


def forget(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a library seem not to be installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(library), *sys.meta_path])


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the code of the page is written with."""
    return {
        **{"Bottleneck": Bottleneck, "Build": Build, "DataModule": DataModule, "Path": Path},
        **{
            "Distillation": Distillation,
            "WholeCheckpoints": WholeCheckpoints,
            "json": json,
            "timm": timm,
        },
        **{"data": data, "export": export, "exported": exported, "methods": methods},
        **{"models": models, "other_classes": other_classes, "torch": torch},
        **{"unfit_training_set": unfit_training_set, "batches": batches},
        **{"small_models": small_models, "tiny_models": tiny_models, "tiny_recipes": tiny_recipes},
        **{"plain": tiny_recipes.plain, "picture": picture, "shapes": shapes},
        **{"fit": fit, "limbeck": run},
        "without": lambda library: forget(library, monkeypatch),
    }


def test_every_error_of_the_page_has_its_case() -> None:
    assert len(CASES) == PAGE.count("```output") > 20


@pytest.mark.parametrize(
    ("code", "message"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_the_message_is_the_pages(
    code: str,
    message: str,
    names: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert " ".join(message_of(code, names).split()) == " ".join(message.split())
