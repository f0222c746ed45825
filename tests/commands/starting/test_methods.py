"""Methods by their names: each is alive between a pair that it is for."""

import pkgutil
from typing import Any

import pytest
import torch
from torch import nn

from limbeck import Distillation
from limbeck.commands.starting.commented import plain
from limbeck.commands.starting.measured import Measured, measured
from limbeck.commands.starting.methods import _TASKS, distilled_by, made_for
from limbeck.commands.starting.models import named
from limbeck.commands.starting.named_model import Model
from limbeck.models import Build
from tests.commands.starting.folders import image_folder, yolo

PAIRS = {
    "HEAD": ("faster-rcnn-light", "retinanet-light"),
    "LD": ("gfl-light", "gfl-light"),
    "CrossKD": ("fcos-light", "fcos-light"),
    "PKD": ("retinanet-light", "ssd-light"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Measured]:
    folders = {task: tmp_path_factory.mktemp(task) for task in ("detection", "classification")}
    yolo(folders["detection"])
    image_folder(folders["classification"])
    return {task: measured(folder) for task, folder in folders.items()}


def models(of: Measured, words: tuple[str, str]) -> tuple[Model, Model]:
    size: Any = [64, 96] if of.task == "detection" else 96
    found = {word: named(word, of, size) for word in dict.fromkeys(words)}
    return found[words[0]], found[words[1]]


def batch(of: Measured) -> tuple[Any, Any]:
    if of.task == "classification":
        return torch.rand(32, 3, 32, 32), torch.arange(32) % 2
    box = {"boxes": torch.tensor([[8.0, 8.0, 48.0, 48.0]]), "labels": torch.tensor([1])}
    return [torch.rand(3, 64, 96) for _ in range(2)], [box, box]


EVERY = [(task, name) for task, names in _TASKS.items() for name in names if name != "QueryKD"]


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_every_method_is_alive(task: str, name: str, data: dict[str, Measured]) -> None:
    of = data[task]
    usual = ("retinanet-light", "retinanet-light") if task == "detection" else ("light", "light")
    teacher, student = models(of, PAIRS.get(name, usual))
    ((_, stated),) = plain(distilled_by(name.lower(), of.task, teacher, student))["methods"].items()
    method: Any = pkgutil.resolve_name(stated["class_path"])(**stated.get("init_args", {}))
    built = [Build(m.class_path, plain(dict(m.arguments))).make() for m in (student, teacher)]
    pair = Distillation(built[0], built[1], {"method": method})
    losses = pair.train()(*batch(of))
    losses.total.backward()
    assert any(key.startswith("method/") for key in losses)


def test_no_such_method(data: dict[str, Measured]) -> None:
    of = data["detection"]
    pair = models(of, ("retinanet-light", "retinanet-light"))
    with pytest.raises(ValueError, match=r"--method is 'fitnets'; expected one of .*mean FitNet"):
        distilled_by("fitnets", "detection", *pair)
    with pytest.raises(ValueError, match="--method is 'KD'; expected one of FitNet"):
        distilled_by("KD", "detection", *pair)


def test_a_pair_that_a_method_is_not_for(data: dict[str, Measured]) -> None:
    pair = models(data["detection"], ("fcos-light", "fcos-light"))
    for method, said in (
        ("HEAD", "has no box head"),
        ("QueryKD", "compares the queries of two transformer"),
        ("LD", "distribution"),
    ):
        begins = f"--method {method} is not for fcos-light as the teacher of fcos-light: "
        with pytest.raises(ValueError, match=f"{begins}.*{said}"):
            distilled_by(method, "detection", *pair)


def test_networks_without_a_place_in_common(data: dict[str, Measured]) -> None:
    of = data["classification"]
    teacher, student = models(of, ("light", "resnet18"))
    student.__dict__["built"] = nn.Flatten()
    with pytest.raises(ValueError, match="light and resnet18 have none at the same place"):
        distilled_by("fitnet", of.task, teacher, student)


@pytest.mark.parametrize(
    ("words", "method"),
    [
        (PAIRS["HEAD"], "HEAD"),
        (PAIRS["PKD"], None),
        (PAIRS["LD"], "CrossKD"),
        (("retinanet-resnet18", "retinanet-light"), None),  # whose pyramid is thinner
    ],
)
def test_the_method_that_was_made_for_a_pair_is_named_beside_the_usual_one(
    data: dict[str, Measured], words: tuple[str, str], method: str | None
) -> None:
    pair = models(data["detection"], words)
    assert made_for("FitNet", *pair) == method
    assert made_for("PKD", *pair) is None  # somebody has chosen
