"""What a user gives that cannot be right, through the command line."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.commands import tiny_recipes
from tests.commands.tiny_recipes import RUN, fit


def photographs(folder: Path, count: int) -> None:
    """A classification set of two classes, whose first image of the first class is cut short."""
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = torch.randint(0, 255, (50, 60, 3), dtype=torch.uint8).numpy()
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
        damaged = folder / split / "cat" / "0.png"
        damaged.write_bytes(damaged.read_bytes()[:500])


def damaged(**data: object) -> tiny_recipes.Recipe:
    """A run of 2 epochs on such a set."""
    recipe = tiny_recipes.classifier(max_epochs=2)
    recipe["model"]["student"]["init_args"]["num_classes"] = 2
    photographs(Path("photographs"), 4)
    for split in ("train", "val"):
        arguments = {"root": f"photographs/{split}"}
        recipe["data"][split] = {"class_path": "limbeck.data.ImageFolder", "init_args": arguments}
    recipe["data"] |= {"batch_size": 4} | data
    return recipe


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_ends_the_run_and_is_named(
    workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        fit(damaged(workers=workers))
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "0.png: not a readable image" in said
    assert "Traceback" not in said


def test_damaged_images_are_skipped_counted_and_listed_if_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fit(damaged(workers=1, on_bad_sample="skip"))
    assert (RUN / "student").exists()
    listed = (RUN / "skipped.txt").read_text().splitlines()
    assert sorted(line.split(" not a readable")[0] for line in listed) == [
        "training: photographs/train/cat/0.png:",
        "validation: photographs/val/cat/0.png:",
    ]
    said = capsys.readouterr().err
    assert "1 samples of the training set were skipped, 1 of 8 so far" in said


def test_a_folder_that_cannot_be_written_to_is_refused_before_training(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").write_text("")
    Path("sealed").mkdir()
    really = os.access  # may everything, where the tests run as root
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name != "sealed" and really(path, mode)
    )
    for folder in ("file", "file/run", "sealed", "sealed/run"):
        with pytest.raises(SystemExit) as end:
            fit(tiny_recipes.plain(), folder=Path(folder))
        assert end.value.code == 1
        said = capsys.readouterr().err
        assert f"the run cannot be kept in {folder}" in said
        assert "--trainer.default_root_dir" in said


def test_a_teacher_and_a_student_that_do_not_fit_are_refused_before_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = tiny_recipes.plain()
    classifier = {"network": {"depths": [1, 1], "widths": [8, 8]}, "num_classes": 5}
    recipe["model"] |= {
        "teacher": {"class_path": "limbeck.models.Classifier", "init_args": classifier},
        "methods": {
            "fitnet": {"class_path": "limbeck.methods.FitNet", "init_args": {"places": ["P3"]}}
        },
    }
    with pytest.raises(SystemExit) as end:
        fit(recipe)
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "P3" in said
    assert "Traceback" not in said
    assert not RUN.exists()


def test_a_detector_on_classification_data_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tiny_recipes.classifier()
    recipe["model"]["student"] = tiny_recipes.detector()
    with pytest.raises(SystemExit) as end:
        fit(recipe)
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "detect" in said


def test_a_student_of_other_classes_than_the_data_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = tiny_recipes.plain()
    recipe["model"]["student"] = tiny_recipes.detector(num_classes=4)
    with pytest.raises(SystemExit) as end:
        fit(recipe)
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "model.student has num_classes=4, the data has 5 classes: circle, square" in said
    assert "Set model.student.init_args.num_classes to 5" in said
    assert not (RUN / "checkpoints").exists()
