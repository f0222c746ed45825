"""Detectors by a word: their kind, their trunk, and what they begin with."""

import pytest

from limbeck.commands.starting.commented import plain
from limbeck.commands.starting.detectors import form_in_libreyolo, least_side
from limbeck.commands.starting.measured import Measured
from limbeck.commands.starting.models import named
from limbeck.models.detection.libreyolo.families import FAMILIES
from tests.commands.starting.folders import SIDES, weights


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
    size = [288, 448] if least_side([word]) else SIDES
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
    model = named(word, boxes, SIDES)
    assert model.from_scratch
    assert weights(model) is None
    assert model.arguments["norm"] == "trained"


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("retinanet-timm:resnet10t", "RetinaNet"),
        ("faster-rcnn-timm:tf_efficientnet_lite0", "FasterRCNN"),
        ("fcos-timm:convnext_atto.d2_in1k", "FCOS"),
        ("ssd-timm:resnet10t", "SSD"),
    ],
)
def test_detectors_on_a_network_of_timms(word: str, kind: str, boxes: Measured) -> None:
    model = named(word, boxes, SIDES)
    assert model.kind == kind
    assert plain(model.arguments["backbone"]) == f"timm:{word.partition('-timm:')[2]}"
    assert weights(model) == "timm:backbone"
    assert model.built is not None
    assert any(name.startswith("backbone.body") for name, _ in model.built.named_parameters())


def test_a_network_that_timm_does_not_have_is_named(boxes: Measured) -> None:
    with pytest.raises(ValueError, match="resnet19t"):
        named("retinanet-timm:resnet19t", boxes, SIDES)


@pytest.mark.parametrize("family", FAMILIES)
def test_detectors_of_libreyolo(family: str, boxes: Measured) -> None:
    pytest.importorskip("libreyolo", reason="LibreYOLO is not installed")
    model = named(f"{family}-s", boxes, SIDES)
    assert model.kind == "LibreYOLODetector"
    assert str(weights(model)).startswith("Libre")
    assert model.form == form_in_libreyolo(FAMILIES[family])
    expected = [96, 96] if model.form == "letterbox" else [64, 96]  # most images lie
    assert plain(model.arguments["image_size"]) == expected
    assert model.built is not None
    assert any(name.startswith("network.backbone") for name, _ in model.built.named_parameters())


def test_a_size_that_libreyolo_does_not_have_is_named(boxes: Measured) -> None:
    pytest.importorskip("libreyolo", reason="LibreYOLO is not installed")
    with pytest.raises(ValueError, match="yolox has the sizes"):
        named("yolox-z", boxes, SIDES)
