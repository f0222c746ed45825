"""LibreYOLO's detectors through the command line: trained, taught, resumed, scored and used."""

import json
import signal
from pathlib import Path

import PIL.Image
import pytest
import torch

from limbeck.models import LibreYOLODetector, load_student
from tests.commands import killing, tiny_recipes
from tests.commands.tiny_recipes import Recipe, fit, limbeck, rows

libreyolo = pytest.importorskip("libreyolo", reason="LibreYOLO is not installed")


def detector(network: str) -> Recipe:
    given = {"network": network, "num_classes": 5, "image_size": [64, 64]}
    return {"class_path": "limbeck.models.LibreYOLODetector", "init_args": given}


def plain(network: str) -> Recipe:
    recipe = tiny_recipes.plain(max_epochs=1, log_every_n_steps=1)
    recipe["model"]["student"] = detector(network)
    return recipe


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_one_teaches_another_and_its_student_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    fit(plain("yolox-n"), folder=Path("teacher"))
    folder = {"folder": "teacher/student"}
    loaded = {"class_path": "limbeck.models.load_student", "init_args": folder}
    methods = {
        "fitnet": {"class_path": "limbeck.methods.FitNet", "init_args": {"places": ["P4"]}},
        "cwd": {"class_path": "limbeck.methods.CWD", "init_args": {"places": ["P3"]}},
    }
    fit(plain("picodet-s"), {"model": {"teacher": loaded, "methods": methods}})
    logged = {name for row in rows(Path("run")) for name, value in row.items() if value}
    assert {"train/raw/fitnet/P4", "train/raw/cwd/P3", "train/raw/student/cls"} <= logged
    assert 0 <= json.loads(Path("run/summary.json").read_text())["scores"]["student"]["AP"] <= 1
    assert isinstance(load_student("run/student"), LibreYOLODetector)
    alone = libreyolo.LibrePICODET("run/student/libreyolo.pt", size="s", device="cpu")
    assert alone.names[0] == "circle"
    PIL.Image.new("RGB", (90, 70), "red").save("picture.png")
    limbeck("predict", "run/student", "picture.png", "--output", "seen", "--threshold", "0")
    assert list(Path("seen").iterdir())
    capsys.readouterr()
    limbeck("inspect", "run/student", "--size", "[64,64]", "--depth", 1)
    assert "cls_maps" in capsys.readouterr().out
    scores = json.loads(Path("run/summary.json").read_text())["scores"]["student"]
    student = {"class_path": "limbeck.models.load_student", "init_args": {"folder": "run/student"}}
    recipe = plain("picodet-s")
    recipe["model"]["student"] = student
    limbeck("validate", "--config", tiny_recipes.write(Path("recipes"), "kept", recipe))
    assert f" {scores['AP']:.3f}" in capsys.readouterr().out.partition("AP50")[0]


def test_a_killed_run_goes_on_as_if_it_had_not_been() -> None:
    recipe = plain("yolox-n")
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
    recipe = plain("rtmdet-t")
    recipe["data"]["train"]["class_path"] = "tests.commands.half_empty.HalfEmpty"
    recipe["trainer"] |= {"devices": 2, "strategy": "ddp"}
    path = tiny_recipes.write(Path("recipes"), "0", recipe)
    words = ["fit", "--config", path, "--trainer.default_root_dir", "run"]
    assert killing.limbeck(*words, processes=2) == [0, 0]
