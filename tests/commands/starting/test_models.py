"""Models by a word: what each begins with."""

from pathlib import Path

import pytest

from limbeck.commands.starting.commented import plain
from limbeck.commands.starting.measured import Measured
from limbeck.commands.starting.methods import distilled_by
from limbeck.commands.starting.models import named
from tests.commands.starting.folders import SIDES, weights


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
    teacher = named("PekingU/rtdetr_r50vd", boxes, SIDES)
    assert teacher.built is None
    assert weights(teacher) == "PekingU/rtdetr_r50vd"
    stated = plain(distilled_by("pkd", "detection", teacher, named("fcos-light", boxes, SIDES)))
    assert stated["methods"]["pkd"]["init_args"]["places"] == ["P3", "P4", "P5"]


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
        named(word.format(folder=tmp_path), boxes, SIDES)
