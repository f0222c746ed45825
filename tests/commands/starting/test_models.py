"""Models by a word: what each begins with, and whose classes it knows."""

import json
from pathlib import Path
from typing import Any

import pytest
from torchvision.models import resnet18

from limbeck.commands.starting.commented import plain
from limbeck.commands.starting.measured import Measured, measured
from limbeck.commands.starting.methods import distilled_by
from limbeck.commands.starting.models import Model, least_side, named
from limbeck.models import BasicBlocks, Build, Classifier, RetinaNet, save_student
from tests.commands.starting.folders import NAMES, image_folder, yolo
from tests.tiny_detrs import config

SIZE = [64, 96]


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = tmp_path_factory.mktemp("boxes")
    yolo(folder)
    return measured(folder)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = tmp_path_factory.mktemp("pictures")
    image_folder(folder)
    return measured(folder)


def weights(model: Model) -> Any:
    return plain(dict(model.arguments)).get("weights")


@pytest.mark.parametrize(
    ("word", "kind", "trunk"),
    [
        ("retinanet-resnet50", "RetinaNet", "resnet50"),
        ("RetinaNet_ResNet18_FPN", "RetinaNet", "resnet18"),
        ("fasterrcnn_resnet50_fpn", "FasterRCNN", "resnet50"),
        ("faster-rcnn-mobilenet-v2", "FasterRCNN", "mobilenet_v2"),
        ("fcos-resnet18", "FCOS", "resnet18"),
        ("gfl-resnet18", "GFL", "resnet18"),
        ("ssd-vgg16", "SSD", "vgg16"),
        ("ssd-mobilenet_v3_large", "SSD", "mobilenet_v3_large"),
    ],
)
def test_detectors_by_kind_and_trunk(word: str, kind: str, trunk: str, boxes: Measured) -> None:
    size = [288, 448] if least_side([word]) else SIZE
    model = named(word, boxes, size)
    assert model.kind == kind
    assert plain(model.arguments["backbone"]) == trunk
    assert weights(model) == "torchvision:backbone"
    assert model.built is not None
    assert model.pretrained is not None
    assert any(name.startswith(model.pretrained) for name, _ in model.built.named_parameters())


@pytest.mark.parametrize(
    "word", ["retinanet-light", "faster-rcnn-light", "fcos-light", "ssd-light"]
)
def test_a_light_trunk_is_trained_from_scratch(word: str, boxes: Measured) -> None:
    model = named(word, boxes, SIZE)
    assert model.from_scratch
    assert weights(model) is None
    assert model.arguments["norm"] == "trained"


@pytest.mark.parametrize(
    ("word", "source"),
    [
        ("resnet18", "torchvision:backbone"),
        ("timm:resnet10t", "timm:backbone"),
        ("resnet10t", "timm:backbone"),  # torchvision has none of that name
        ("light", None),
    ],
)
def test_classifiers(word: str, source: str | None, pictures: Measured) -> None:
    model = named(word, pictures, 64)
    assert weights(model) == source
    assert model.from_scratch == (source is None)
    assert model.parameters.endswith(" M parameters")


def test_a_name_on_the_hub_is_taken_as_it_is(boxes: Measured) -> None:
    """Nothing is downloaded, so its maps are taken for those of RT-DETR."""
    teacher = named("PekingU/rtdetr_r50vd", boxes, SIZE)
    assert teacher.built is None
    assert weights(teacher) == "PekingU/rtdetr_r50vd"
    stated = plain(distilled_by("pkd", "detection", teacher, named("fcos-light", boxes, SIZE)))
    assert stated["methods"]["pkd"]["init_args"]["places"] == ["P3", "P4", "P5"]


def transformer(folder: Path, **labels: Any) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config("rt_detr") | labels))
    return str(folder)


def id2label(*names: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names))}


def test_a_transformers_folder_is_taken_as_trained_where_its_classes_are_these(
    boxes: Measured, tmp_path: Path
) -> None:
    own = named(transformer(tmp_path / "own", **id2label(*NAMES)), boxes, SIZE)
    assert own.ready is not None
    assert "red, blue" in own.ready
    unnamed = named(transformer(tmp_path / "un", **id2label("LABEL_0", "LABEL_1")), boxes, SIZE)
    assert "does not name them" in str(unnamed.ready)
    for name, labels in {"others": ("cat", "dog"), "more": ("red", "blue", "green")}.items():
        assert named(transformer(tmp_path / name, **id2label(*labels)), boxes, SIZE).ready is None
    with pytest.raises(ValueError, match=r"in the order red, blue\. Expected one order"):
        named(transformer(tmp_path / "turned", **id2label("blue", "red")), boxes, SIZE)


def test_the_folder_of_a_run_has_a_student_whose_classes_are_checked(
    boxes: Measured, pictures: Measured, tmp_path: Path
) -> None:
    shape = BasicBlocks((1, 1, 1, 1), (8, 8, 8, 8))
    detector = RetinaNet(shape, 2, levels=(3, 5), fpn_channels=32, head_depth=1, min_size=64)
    save_student(detector, tmp_path / "run" / "student", classes=NAMES)
    found = named(str(tmp_path / "run"), boxes, SIZE)
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


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "retinanet-resnet19",
            "there is no detector 'retinanet-resnet19'. Expected one of retinanet-",
        ),
        ("./nowhere", "./nowhere is not a folder"),
        ("{folder}/weights.pth", "is a file; expected a model's name"),
        ("{folder}", "has neither a student.json"),
    ],
)
def test_words_that_name_no_model(word: str, message: str, boxes: Measured, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").touch()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        named(word.format(folder=tmp_path), boxes, SIZE)


def test_a_student_of_a_class_that_is_not_limbecks_is_named(
    pictures: Measured, tmp_path: Path
) -> None:
    build = Build("torchvision.models.resnet18", {"num_classes": 2})
    save_student(resnet18(num_classes=2), tmp_path, build=build, classes=NAMES)
    with pytest.raises(
        ValueError, match=r"holds a torchvision\.models\.resnet18; expected a class"
    ):
        named(str(tmp_path), pictures, SIZE)
