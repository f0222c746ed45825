"""The tables that the site's own directives make of models and presets."""

import importlib
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from limbeck import presets

EXTENSIONS = Path(__file__).parents[2] / "docs/extensions"


@pytest.fixture
def extension(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("sphinx", reason="the site's tools are not installed")
    monkeypatch.syspath_prepend(EXTENSIONS)
    return importlib.import_module(request.param)


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("extension", [name], indirect=True)


@of("landmark_tables")
def test_a_models_landmarks_are_a_table_with_their_shapes(extension: ModuleType) -> None:
    lines = extension.landmark_lines(
        "models.RetinaNet(models.BasicBlocks((1, 1, 1, 1), (8, 8, 8, 8)), 3, fpn_channels=16)"
    )
    assert lines[:2] == [
        "| landmark | where it is read | shape at 128 x 128 px | stride |",
        "| --- | --- | --- | --- |",
    ]
    assert "| `P4` | `backbone/1` | 1 x 16 x 8 x 8 | 16 |" in lines
    (pyramid,) = [line for line in lines if line.startswith("| `fpn`")]
    assert pyramid.endswith("1 x 16 x 8 x 8, 1 x 16 x 4 x 4 and 2 more | 8, 16, 32 |")


@of("landmark_tables")
def test_a_model_for_one_size_is_run_on_that_size(extension: ModuleType) -> None:
    lines = extension.landmark_lines("models.YOLOv2(1 / 16, 3, image_size=(64, 96))")
    assert "shape at 64 x 96 px" in lines[0]


@of("landmark_tables")
def test_names_of_several_models_are_a_list(extension: ModuleType) -> None:
    classifier = "models.Classifier(models.BasicBlocks((1, 1), (8, 8)), 3)"
    term, definition, gap = extension.name_lines([classifier])
    assert (term, gap) == (f"`{classifier}`", "")
    assert definition.startswith(": `C2`, `C2.pre`, ")
    assert definition.endswith("`pooled`, `logits`")


@of("preset_tables")
def test_presets_are_a_table_in_words(extension: ModuleType) -> None:
    lines = extension.preset_lines(presets.RETINANET, presets.OF_EVERY_DETECTOR)
    assert lines[0] == "| field of the preset | torchvision | detectron2 | mmdetection |"
    p6 = "| `p6_from`: The map that P6 is computed from. | P5 | C5 | C5 |"
    relu = "| `relu_before_p7`: Whether there is a ReLU between P6 and P7. | yes | yes | no |"
    assert {p6, relu} <= set(lines)
    own = fields(presets.RetinaNetPreset)
    assert len(lines) == 2 + len(own) - len(fields(presets.Preset))  # those have their own table
