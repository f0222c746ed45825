"""``limbeck data inspect`` and ``limbeck data convert``, through the command line."""

import json
import logging
from pathlib import Path

import PIL.Image
import pytest
import torch
import yaml

from limbeck.commands.data_inspect import inspect
from limbeck.commands.datasets import given_datasets, resize_of
from limbeck.commands.stated import stated_in
from limbeck.data import COCO, ImageFolder, Shapes
from limbeck.data.contents import contents_of
from limbeck.data.facts import Resize
from limbeck.data.written import Source, write_dataset
from tests.commands import tiny_recipes


def shapes(folder: Path, count: int = 4) -> Path:
    """Generated images in COCO's layout, in two splits that share one image."""
    sets = {"train": Shapes(count=count, size=64), "val": Shapes(count=1, size=64)}
    sources = {name: Source(contents_of(each), each) for name, each in sets.items()}
    write_dataset(sources, "coco", folder)
    return folder


def inspected(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, object]:
    capsys.readouterr()
    tiny_recipes.limbeck("data", "inspect", "--json", *words)
    return json.loads(capsys.readouterr().out)


def test_inspect_tells_programs_and_people(capsys: pytest.CaptureFixture[str]) -> None:
    folder = shapes(Path("data"))
    found = inspected(capsys, folder, "--picture", "grid.png", "--images", 3)
    assert {name: split["images"] for name, split in found["splits"].items()} == {
        "train": 4,
        "val": 1,
    }
    (copies,) = found["copies"]
    assert (copies["of"], list(copies["files"])) == ("bytes", ["train", "val"])
    with PIL.Image.open("grid.png") as picture:
        assert picture.info["Software"] == "limbeck data inspect"
    tiny_recipes.limbeck("data", "inspect", folder, "--picture", "grid.png")
    said = capsys.readouterr()
    assert "under 32 x 32" in said.out
    assert "train and val share 1 images of the same bytes" in said.err


def test_a_picture_of_others_is_not_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.png").write_bytes(b"mine")
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("data", "inspect", shapes(Path("data")), "--picture", "own.png")
    assert "is no PNG that `limbeck data inspect` has drawn" in capsys.readouterr().err
    assert Path("own.png").read_bytes() == b"mine"


def test_what_cannot_be_read_is_told_and_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    folder = shapes(Path("data"))
    broken = folder / "train/000001.png"
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    assert inspected(capsys, folder)["splits"]["train"]["unreadable"] == []
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("data", "inspect", folder, "--decode")
    assert end.value.code == 1
    assert "1 of 5 images cannot be read" in capsys.readouterr().err


def test_splits_whose_classes_are_in_another_order(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shapes(Path("data"))
    file = folder / "annotations/instances_val.json"
    content = json.loads(file.read_text())
    categories = content["categories"]
    for category, name in zip(categories, [each["name"] for each in categories][::-1], strict=True):
        category["name"] = name
    file.write_text(json.dumps(content))
    monkeypatch.setattr(logging.getLogger("limbeck"), "propagate", True)
    with caplog.at_level("WARNING"):
        inspect([str(folder)])
    assert "the same classes in another order" in caplog.text


def test_a_recipe_s_data_are_as_annotated_and_its_resizing_is_known() -> None:
    recipe = tiny_recipes.plain()
    folder = shapes(Path("data"))
    arguments = {
        "images": str(folder / "train"),
        "annotations": str(folder / "annotations/instances_train.json"),
        "training": True,
    }
    recipe["data"]["train"] = {"class_path": "limbeck.data.COCO", "init_args": arguments}
    given = given_datasets([str(tiny_recipes.write(Path("recipes"), "a", recipe))])
    train = given.splits["train"]
    assert isinstance(train, COCO)
    assert not train.training
    assert given.resize == Resize(short=64, long=64)


def test_a_data_yaml_is_data_and_no_recipe() -> None:
    folder = shapes(Path("data"))
    tiny_recipes.limbeck("data", "convert", folder, "--to", "yolo", "--output", "yolo")
    given = given_datasets(["yolo/data.yaml"])
    assert {name: len(each) for name, each in given.splits.items()} == {"train": 4, "val": 1}


def test_a_student_without_a_stated_size_has_its_class_s_usual_one() -> None:
    recipe = tiny_recipes.write(Path("recipes"), "a", tiny_recipes.plain())
    student = stated_in([str(recipe)]).model.student
    del student.init_args["min_size"], student.init_args["max_size"]
    assert resize_of(student) == Resize(short=800, long=1333)


def test_convert_says_what_a_recipe_states_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    folder = shapes(Path("data"))
    tiny_recipes.limbeck("data", "convert", folder, "--to", "voc", "--output", "out")
    said = capsys.readouterr()
    stated = yaml.safe_load(said.out[said.out.index("data:\n") :])
    assert stated["data"]["val"]["init_args"]["classes"] == list(Shapes(count=1).classes)
    assert "what there may be of this: outlines" in said.err
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("data", "convert", folder, "--to", "voc", "--output", "out")
    assert "out holds Annotations, ImageSets, JPEGImages. Expected a new" in capsys.readouterr().err


def test_classification_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cat", "dog"):
        Path("images", name).mkdir(parents=True)
        noise = torch.zeros(8, 8, 3, dtype=torch.uint8).numpy()
        PIL.Image.fromarray(noise).save(f"images/{name}/a.png")
    assert len(ImageFolder("images")) == 2
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("data", "convert", "images", "--to", "coco", "--output", "out")
    assert "all is for classification; expected a dataset of detection" in capsys.readouterr().err
    assert not Path("out").exists()
