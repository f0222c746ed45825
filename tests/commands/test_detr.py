"""Transformer detectors through the command line: trained, taught, resumed, scored and used."""

import json
import signal
from pathlib import Path

import PIL.Image
import pytest
import torch

from limbeck.models import HuggingFaceDetector, load_student
from tests import tiny_detrs
from tests.commands import killing, tiny_recipes
from tests.commands.tiny_recipes import Recipe, fit, limbeck, rows

transformers = pytest.importorskip("transformers")


def detector(family: str) -> Recipe:
    given = {"network": tiny_detrs.config(family), "num_classes": 5, "image_size": [64, 64]}
    return {"class_path": "limbeck.models.HuggingFaceDetector", "init_args": given}


def plain(family: str) -> Recipe:
    recipe = tiny_recipes.plain(max_epochs=1, log_every_n_steps=1)
    recipe["model"]["student"] = detector(family)
    return recipe


def taught(teacher: Path, **methods: Recipe) -> Recipe:
    loaded = {"class_path": "limbeck.models.load_student", "init_args": {"folder": str(teacher)}}
    return {"model": {"teacher": loaded, "methods": methods}}


QUERIES: Recipe = {"class_path": "limbeck.methods.QueryKD"}
PKD: Recipe = {"class_path": "limbeck.methods.PKD", "init_args": {"places": ["P3"], "weight": 1.0}}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_detr_teaches_another_and_its_student_is_used() -> None:
    fit(plain("d_fine"), folder=Path("teacher"))
    methods = {"queries": QUERIES, "pkd": PKD}
    fit(plain("rt_detr"), taught(Path("teacher/student"), **methods), folder=Path("run"))
    logged = {name for row in rows(Path("run")) for name, value in row.items() if value}
    assert {"train/raw/queries/giou", "train/raw/pkd/P3", "train/raw/student/vfl"} <= logged
    assert 0 <= json.loads(Path("run/summary.json").read_text())["scores"]["student"]["AP"] <= 1
    student = load_student("run/student")
    assert isinstance(student, HuggingFaceDetector)
    alone = transformers.RTDetrForObjectDetection.from_pretrained("run/student")
    assert alone.config.id2label[0] == "circle"
    PIL.Image.new("RGB", (90, 70), "red").save("picture.png")
    limbeck("predict", "run/student", "picture.png", "--output", "seen", "--threshold", "0")
    assert list(Path("seen").iterdir())


def test_a_detr_teaches_a_retinanet_by_its_maps() -> None:
    fit(plain("rt_detr"), folder=Path("teacher"))
    adapted = {**PKD["init_args"], "adapter": "conv"}
    recipe = tiny_recipes.plain(max_epochs=1, log_every_n_steps=1)
    fit(recipe, taught(Path("teacher/student"), pkd={**PKD, "init_args": adapted}))
    assert any(row.get("train/raw/pkd/P3") for row in rows(Path("run")))


def test_a_killed_run_goes_on_as_if_it_had_not_been() -> None:
    recipe = plain("d_fine")  # which draws its denoising queries at random
    recipe["checkpoint_every"] = 2
    recipe["trainer"]["callbacks"] = [{"class_path": "tests.commands.killing.Kill"}]
    begin = ["fit", "--config", tiny_recipes.write(Path("recipes"), "0", recipe)]
    begin.append("--trainer.default_root_dir")
    assert killing.limbeck(*begin, "whole") == [0]
    assert killing.limbeck(*begin, "parted", kill="SIGKILL@3") == [-signal.SIGKILL]
    assert killing.limbeck("fit", "--resume", "parted") == [0]
    whole, parted = (load_student(f"{run}/student").state_dict() for run in ("whole", "parted"))
    assert all(torch.equal(whole[name], parted[name]) for name in whole)


def test_two_processes_train_together_also_where_one_has_no_boxes() -> None:
    recipe = plain("rt_detr")
    recipe["data"]["train"]["class_path"] = "tests.commands.half_empty.HalfEmpty"
    recipe["trainer"] |= {"devices": 2, "strategy": "ddp"}
    path = tiny_recipes.write(Path("recipes"), "0", recipe)
    words = ["fit", "--config", path, "--trainer.default_root_dir", "run"]
    assert killing.limbeck(*words, processes=2) == [0, 0]
