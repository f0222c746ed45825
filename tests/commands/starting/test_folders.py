"""Models in folders: what they are, and whose classes they know."""

import json
from pathlib import Path
from typing import Any

import pytest
from torchvision.models import resnet18

from limbeck.commands.starting.measured import Measured
from limbeck.commands.starting.models import named
from limbeck.models import (
    BasicBlocks,
    Build,
    Classifier,
    LibreYOLODetector,
    RetinaNet,
    save_student,
)
from tests.commands.starting.folders import NAMES, SIDES, weights
from tests.tiny_detrs import config


def transformer(folder: Path, **labels: Any) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config("rt_detr") | labels))
    return str(folder)


def id2label(*names: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names))}


def test_a_transformers_folder_is_taken_as_trained_where_its_classes_are_these(
    boxes: Measured, tmp_path: Path
) -> None:
    own = named(transformer(tmp_path / "own", **id2label(*NAMES)), boxes, SIDES)
    assert own.ready is not None
    assert "red, blue" in own.ready
    unnamed = named(transformer(tmp_path / "un", **id2label("LABEL_0", "LABEL_1")), boxes, SIDES)
    assert "does not name them" in str(unnamed.ready)
    for name, labels in {"others": ("cat", "dog"), "more": ("red", "blue", "green")}.items():
        assert named(transformer(tmp_path / name, **id2label(*labels)), boxes, SIDES).ready is None
    with pytest.raises(ValueError, match=r"in the order red, blue\. Expected one order"):
        named(transformer(tmp_path / "turned", **id2label("blue", "red")), boxes, SIDES)


def test_the_folder_of_a_run_has_a_student_whose_classes_are_checked(
    boxes: Measured, pictures: Measured, tmp_path: Path
) -> None:
    shape = BasicBlocks((1, 1, 1, 1), (8, 8, 8, 8))
    detector = RetinaNet(shape, 2, levels=(3, 5), fpn_channels=32, head_depth=1, min_size=64)
    save_student(detector, tmp_path / "run" / "student", classes=NAMES)
    found = named(str(tmp_path / "run"), boxes, SIDES)
    assert found.ready is not None
    assert weights(found) == str(tmp_path / "run" / "student")
    with pytest.raises(ValueError, match="is for detection, and the data are for classification"):
        named(str(tmp_path / "run"), pictures, 64)
    save_student(Classifier(shape, 2), tmp_path / "cats", classes=("cat", "dog"))
    with pytest.raises(
        ValueError, match=r"has learnt the classes cat, dog; the data have blue, red"
    ):
        named(str(tmp_path / "cats"), pictures, 64)


def test_a_student_that_names_no_classes_is_known_by_their_number(
    pictures: Measured, tmp_path: Path
) -> None:
    shape = BasicBlocks((1, 1, 1, 1), (8, 8, 8, 8))
    save_student(Classifier(shape, 2), tmp_path / "two")
    assert "does not name them: see that their order is" in str(
        named(str(tmp_path / "two"), pictures, 64).ready
    )
    save_student(Classifier(shape, 3), tmp_path / "three")
    with pytest.raises(ValueError, match="three has 3 classes, without names; the data have 2"):
        named(str(tmp_path / "three"), pictures, 64)


def test_a_student_of_a_class_that_is_not_limbecks_is_named(
    pictures: Measured, tmp_path: Path
) -> None:
    build = Build("torchvision.models.resnet18", {"num_classes": 2})
    save_student(resnet18(num_classes=2), tmp_path, build=build, classes=NAMES)
    with pytest.raises(
        ValueError, match=r"holds a torchvision\.models\.resnet18; expected a class"
    ):
        named(str(tmp_path), pictures, SIDES)


def test_a_student_of_libreyolo_has_its_librarys_form(boxes: Measured, tmp_path: Path) -> None:
    pytest.importorskip("libreyolo", reason="LibreYOLO is not installed")
    for name, form in {"yolox-n": "letterbox", "picodet-s": "fixed"}.items():
        model = LibreYOLODetector(name, 2, image_size=(64, 96))
        save_student(model, tmp_path / name, classes=NAMES)
        found = named(str(tmp_path / name), boxes, SIDES)
        assert found.form == form
        assert found.ready is not None
