"""``limbeck`` with recipes that have images without labels."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torchvision.transforms.v2.functional import to_pil_image

from limbeck.commands.method_picture import draw_method
from limbeck.comparison import running
from limbeck.data import Shapes
from tests.commands import tiny_recipes
from tests.commands.conftest import Runs
from tests.commands.processes import start
from tests.commands.tiny_recipes import RUN, fit


@pytest.fixture
def photographs() -> Path:
    """16 images of 64 px, in the folder that the test runs in."""
    for number, (image, _) in enumerate(Shapes(size=64, count=16, seed=5)):
        path = Path("photographs", f"of {number % 2}", f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        to_pil_image(image).save(path)
    return Path("photographs").absolute()


def unlabelled(folder: Path, **changes: object) -> tiny_recipes.Recipe:
    """What is laid over a recipe whose methods learn from images, too."""
    images = {"class_path": "limbeck.data.Images", "init_args": {"root": str(folder)}}
    return {"data": {"unlabelled": images, **changes}}


def test_a_mixed_run_from_its_recipe_to_its_student(runs: Runs, photographs: Path) -> None:
    recipe = tiny_recipes.plain(log_every_n_steps=1, max_epochs=3)
    taught = tiny_recipes.taught(runs.teacher / "student")
    fit(recipe, taught, unlabelled(photographs))
    stated = yaml.safe_load((RUN / "config.yaml").read_text())["data"]
    assert stated["unlabelled_share"] == 0.5
    logged = [row for row in tiny_recipes.rows(RUN) if row["train/total"]]
    with_labels = [row["train/task"] != "" for row in logged]
    assert sorted(with_labels) == [False] * 6 + [True] * 6
    for row, labelled in zip(logged, with_labels, strict=True):
        assert (row["train/raw/student/classification"] != "") == labelled
        assert row["train/raw/fitnet/fpn.0"] != ""
        distillation = float(row["train/distillation"])
        task = float(row["train/task"]) if labelled else 0.0
        assert float(row["train/total"]) == pytest.approx(task + distillation, rel=1e-5)
    assert load_file(RUN / "student" / "student.safetensors")
    tiny_recipes.limbeck("validate", "--config", RUN / "config.yaml")


def test_a_run_on_a_list_of_images_alone(runs: Runs, photographs: Path) -> None:
    files = sorted(photographs.rglob("*.png"))
    listed = photographs / "list.txt"
    listed.write_text("\n".join(path.relative_to(photographs).as_posix() for path in files))
    recipe = tiny_recipes.plain(max_epochs=2)
    del recipe["data"]["train"]
    fit(recipe, tiny_recipes.taught(runs.teacher / "student"), unlabelled(listed))
    found = torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=False)
    assert found["global_step"] == 4


def test_a_method_that_needs_labels_is_refused_before_training(
    runs: Runs, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imitation = {"class_path": "limbeck.methods.FineGrainedImitation"}
    taught = tiny_recipes.taught(runs.teacher / "student")
    taught["model"]["methods"]["imitation"] = imitation
    with pytest.raises(SystemExit):
        fit(tiny_recipes.plain(), taught, unlabelled(photographs))
    said = " ".join(capsys.readouterr().err.split())
    assert "data.unlabelled has 16 images" in said
    assert "need labels: imitation (FineGrainedImitation)." in said
    assert "Leave these methods out (model.methods), or the unlabelled images" in said
    assert not (RUN / "student").exists()


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"class_path": "limbeck.data.Shapes"}, "limbeck.data.Images"),
        (
            {"class_path": "limbeck.data.Images", "init_args": {"root": "nowhere"}},
            "nowhere does not exist; expected a folder of images",
        ),
    ],
)
def test_what_is_no_set_of_images_is_said(
    given: tiny_recipes.Recipe, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        fit(tiny_recipes.plain(), {"data": {"unlabelled": given}})
    said = " ".join(capsys.readouterr().err.split())
    assert "data.unlabelled" in said
    assert found in said


def test_a_method_s_picture_of_images_alone(runs: Runs, photographs: Path) -> None:
    recipe = tiny_recipes.plain()
    recipe["data"]["train"] = None
    imitation = {"class_path": "limbeck.methods.FineGrainedImitation"}
    taught = tiny_recipes.taught(runs.teacher / "student")
    taught["model"]["methods"] = {"imitation": imitation}
    stated = [recipe, taught, unlabelled(photographs)]
    written = (tiny_recipes.write(Path("recipes"), str(i), r) for i, r in enumerate(stated))
    paths = [str(path) for path in written]
    with pytest.raises(ValueError, match=r"need labels: imitation"):
        draw_method(paths, "imitation", Path("picture.png"), 2, None)


@pytest.mark.slow
def test_a_comparison_whose_rows_share_the_images(
    runs: Runs, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plain student and the transfer alone never see them, and have as many steps."""
    monkeypatch.setattr(running, "start", start)
    plain = tiny_recipes.plain(max_epochs=1)
    plain["data"] |= unlabelled(photographs)["data"]
    stated = {
        "plain": plain,
        "rows": {"FitNet": tiny_recipes.taught(runs.teacher / "student")},
        "seeds": [0],
        "scored_on": tiny_recipes.shapes(12, 5),
        "controls": {"equal_time": False, "transfer": True, "twice_as_long": False},
    }
    Path("mine.yaml").write_text(yaml.safe_dump(stated))
    tiny_recipes.limbeck("compare", "mine.yaml", "--weak_teacher")
    folders = {path.name.split("_0_")[0]: path for path in Path("runs/mine/runs").iterdir()}
    steps = {
        name: torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)["global_step"]
        for name, folder in folders.items()
        if (folder / "checkpoints").exists()
    }
    assert set(steps.values()) == {4}
    assert len(steps) == 3


@pytest.mark.slow
def test_parameters_that_nothing_reads_rest_on_two_processes_as_on_one(photographs: Path) -> None:
    """The methods read C3: what comes after it is reached by labels alone."""
    students = []
    for devices, share in ((1, 1.0), (2, 1.0), (2, 0.5)):
        recipe = tiny_recipes.classifier(max_epochs=4, devices=devices)
        folder = Path(f"run_of_{devices}_{share}")
        recipe["trainer"] |= {"strategy": "ddp"} if devices == 2 else {}
        recipe["trainer"]["default_root_dir"] = str(folder)
        recipe["data"] |= unlabelled(photographs, unlabelled_share=share)["data"]
        hint = {"class_path": "limbeck.methods.FitNet", "init_args": {"places": ["C3"]}}
        recipe["model"] |= {
            "teacher": recipe["model"]["student"],
            "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.1},
            "methods": {"hint": hint},
        }
        path = tiny_recipes.write(Path("recipes"), folder.name, recipe)
        words = [sys.executable, "-m", "limbeck.cli", "fit", "--config", str(path)]
        threads = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(words, capture_output=True, text=True, env=threads, check=False)
        assert done.returncode == 0, done.stderr
        students.append(load_file(folder / "student" / "student.safetensors"))
    one, two, mixed = students
    resting, moved = "fc.weight", "layer1.0.conv1.weight"
    assert torch.equal(one[resting], two[resting])
    assert not torch.equal(mixed[resting], two[resting])
    assert not torch.equal(one[moved], two[moved])
