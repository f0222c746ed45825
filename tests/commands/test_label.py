"""``limbeck label``: what it writes, how it goes on, and what it refuses."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from limbeck.commands import label as label_verb
from limbeck.commands.label import images_of
from limbeck.commands.label_teacher import checksum, teacher_of
from limbeck.commands.predicting import detect
from limbeck.data import COCO, Augmentation, Shapes
from limbeck.data.augmentation import Transform
from limbeck.data.contents import contents_of
from limbeck.data.written import Source, write_dataset
from limbeck.models import save_student
from tests import tiny_models
from tests.commands import tiny_recipes
from tests.commands.test_data import shapes
from tests.exported.files import DETECTOR, giving

CLASSES = Shapes(count=1).classes
PHOTOGRAPHS = Path("data/train")


@pytest.fixture
def student() -> Path:
    """A detector of random weights, which finds something everywhere, and labelled images."""
    shapes(Path("data"), count=5)
    save_student(finder(), "student", classes=CLASSES)
    return Path("student")


def finder() -> nn.Module:
    """Its scores are around one half, where those of a new detector are next to none."""
    model = tiny_models.detector()
    nn.init.zeros_(model.head.classification_head.cls_logits.bias)
    return model


def labelled(*words: object) -> None:
    tiny_recipes.limbeck("label", *words, "--batch_size", 2, "--device", "cpu")


def test_labels_are_what_the_teacher_finds_from_the_score_on(student: Path) -> None:
    labelled(student, PHOTOGRAPHS, "--to", "coco", "--output", "out", "--score", 0.01)
    dataset = COCO("out/train", "out/annotations/instances_train.json")
    model = teacher_of(student).model
    count = 0
    for image, target in dataset:
        (found,) = detect(model, [image.as_subclass(Tensor) / 255], 0.01)
        assert torch.allclose(target["boxes"].data, found["boxes"], atol=1e-3)
        assert torch.equal(target["labels"], found["labels"])
        count += len(found["labels"])
    assert count > 0
    info = json.loads(Path("out/annotations/instances_train.json").read_text())["info"]
    assert info["teacher"]["source"] == "student"
    assert info["thresholds"]["circle"] == {"score": 0.01}
    assert not Path("out.unfinished").exists()


@pytest.mark.parametrize("to", ["voc", "yolo"])
def test_where_labels_are_from_stands_beside_them(student: Path, to: str) -> None:
    labelled(student, PHOTOGRAPHS, "--to", to, "--output", "out", "--score", 0.01)
    assert json.loads(Path("out/labels.json").read_text())["teacher"]["source"] == "student"


def test_a_killed_call_goes_on_with_the_images_that_are_left(
    student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (student, PHOTOGRAPHS, "--to", "coco", "--output", "out", "--score", 0.01)
    sizes: list[int] = []

    def counted(model: nn.Module, images: list[Tensor], threshold: float) -> object:
        if len(sizes) == 1:
            raise KeyboardInterrupt
        sizes.append(len(images))
        return detect(model, images, threshold)

    monkeypatch.setattr(label_verb, "detect", counted)
    with pytest.raises(SystemExit) as end:
        labelled(*words)
    assert end.value.code == 130
    assert sizes == [2]
    assert Path("out.unfinished").exists()
    assert not Path("out").exists()
    sizes.clear()

    def resumed(model: nn.Module, images: list[Tensor], threshold: float) -> object:
        sizes.append(len(images))
        return detect(model, images, threshold)

    monkeypatch.setattr(label_verb, "detect", resumed)
    labelled(*words)
    assert sizes == [2, 1]
    assert len(COCO("out/train", "out/annotations/instances_train.json")) == 5


def test_thresholds_are_chosen_and_a_student_trains_on_the_result(student: Path) -> None:
    Path("run").mkdir()
    teacher = student.rename("run/student").parent  # as a run's folder has it
    given = ("--labelled", "data", "--score", 0.2)
    labelled(teacher, PHOTOGRAPHS, "--to", "coco", "--output", "out", *given)
    file = "out/annotations/instances_train.json"
    thresholds = json.loads(Path(file).read_text())["info"]["thresholds"]
    assert set(thresholds) == set(CLASSES)
    assert any("f1" in each for each in thresholds.values())
    assert any(each == {"score": 0.2} for each in thresholds.values())
    recipe = tiny_recipes.plain(max_epochs=1)
    arguments = {"images": "out/train", "annotations": file, "training": True}
    arguments["keep_images_without_boxes"] = True
    recipe["data"]["train"] = {"class_path": "limbeck.data.COCO", "init_args": arguments}
    recipe["data"]["batch_size"] = 2
    path = tiny_recipes.write(Path("recipes"), "labelled", recipe)
    tiny_recipes.limbeck("fit", "--config", path)
    assert Path("runs/recipes/labelled/student/student.json").exists()


def test_a_recipe_s_teacher(student: Path) -> None:
    loaded = {"class_path": "limbeck.models.load_student", "init_args": {"folder": str(student)}}
    recipe = tiny_recipes.plain()
    recipe["model"] |= {"teacher": loaded, "transfer": {"head": "head"}}
    found = teacher_of(tiny_recipes.write(Path("recipes"), "taught", recipe))
    assert found.classes == CLASSES
    assert found.sha256 == teacher_of(student).sha256
    with pytest.raises(ValueError, match=r"has no teacher that predicts"):
        teacher_of(tiny_recipes.write(Path("recipes"), "plain", tiny_recipes.plain()))


@pytest.mark.parametrize(
    ("runtime", "changed"),
    [
        ("openvino", "a.xml"),
        ("openvino", "a.bin"),
        ("openvino", "a.xml.json"),
        ("onnx", "a.onnx"),
        ("onnx", "a.onnx.data"),
        ("onnx", "a.onnx.json"),
    ],
)
def test_an_exported_teacher_is_another_one_where_any_of_its_files_is(
    runtime: Literal["openvino", "onnx"],
    changed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exported = giving([], replace(DETECTOR, runtime=runtime), tmp_path, monkeypatch)
    for name in ("a.bin", "a.onnx.data"):
        (tmp_path / name).write_bytes(b"weights")
    before = checksum(exported)
    assert checksum(exported) == before
    with (tmp_path / changed).open("ab") as file:
        file.write(b" ")
    assert checksum(exported) != before


def test_classes_in_another_order_are_refused_with_both_lists(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_student(tiny_models.detector(), student, classes=CLASSES[::-1])
    with pytest.raises(SystemExit):
        labelled(student, PHOTOGRAPHS, "--to", "coco", "--output", "out", "--labelled", "data")
    said = capsys.readouterr().err
    assert ", ".join(CLASSES) in said
    assert ", ".join(CLASSES[::-1]) in said
    assert "and the order differs" in said


def test_what_cannot_be_labelled_is_refused(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_student(tiny_models.classifier(), "classifier")
    save_student(tiny_models.detector(), "nameless")
    save_student(tiny_models.detector(), "twins", classes=["a", "a", "b", "c", "d"])
    to = (PHOTOGRAPHS, "--to", "coco", "--output", "out")
    for words, message in (
        ((student, *to), "there is neither --labelled nor --score"),
        (("classifier", *to, "--score", 0.1), "is a classifier (Classifier); expected a detector"),
        (("nameless", *to, "--score", 0.1), "does not say what its classes are called"),
        (("twins", *to, "--score", 0.1), "twins has several classes of the name a"),
        (("data", *to, "--score", 0.1), "holds no student.json"),
        ((student, "none/*.png", *to[1:], "--score", 0.1), "stands for no image"),
    ):
        with pytest.raises(SystemExit):
            labelled(*words)
        assert message in capsys.readouterr().err
    assert not Path("out").exists()


class Halving(Augmentation):
    """An augmentation that also makes evaluated images smaller."""

    task = "detection"

    def training(self) -> Transform:
        return halved

    def evaluation(self) -> Transform:
        return halved


def halved(image: Any, *target: Any) -> Any:
    return image[..., ::2, ::2]


@pytest.mark.parametrize("given", [("--labelled", "data"), ("--score", 0.1)])
def test_an_augmentation_that_resizes_is_refused_before_it_is_measured(
    student: Path, given: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its boxes would be right nowhere, and thresholds of no use."""
    stated = {"class_path": f"{__name__}.Halving", "init_args": {}}
    metadata = {"task": "detection", "augmentation": stated}
    save_student(finder(), student, classes=CLASSES, metadata=metadata)
    with pytest.raises(SystemExit):
        labelled(student, PHOTOGRAPHS, "--to", "coco", "--output", "out", *given, "--trust", "true")
    said = capsys.readouterr().err
    assert "the augmentation of student makes (32, 32) of height and width (64, 64)" in said
    assert "none of the" in said
    assert "No box of" not in said
    assert pickle.loads(pickle.dumps(teacher_of(student, trust=True).transform))


def test_images_that_cannot_be_read_are_left_out_and_told(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (PHOTOGRAPHS / "000001.png").write_bytes(b"")
    with pytest.raises(SystemExit) as end:
        labelled(student, PHOTOGRAPHS, "--to", "coco", "--output", "out", "--score", 0.01)
    assert end.value.code == 1
    assert "1 of 5 images could not be read" in capsys.readouterr().err
    assert len(COCO("out/train", "out/annotations/instances_train.json")) == 4


def test_images_by_folder_list_file_and_pattern() -> None:
    images = Shapes(count=3, size=32)
    write_dataset({"train": Source(contents_of(images), images)}, "coco", Path("data"))
    every = sorted(PHOTOGRAPHS.iterdir())
    Path("list.txt").write_text("data/train/000001.png\n")
    assert images_of(["data"]) == images_of([f"{PHOTOGRAPHS}/*.png"]) == every
    assert images_of(["list.txt", str(every[1]), "data/**/*1.png"]) == [every[1]]
