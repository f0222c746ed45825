"""What a state dict says of its network, by models whose arguments are known."""

from typing import Any

import pytest
import torch
import torchvision

from limbeck import models
from limbeck.checkpoints.architecture import architecture, kind_of, trunk_of
from limbeck.checkpoints.libraries import torchvision as torchvision_names
from tests.checkpoints.narrow_tensors import small, small_detector


@pytest.mark.parametrize(
    ("kind", "backbone", "arguments"),
    [
        *(("RetinaNet", name, {}) for name in ("resnet18", "resnet34", "resnet50", "mobilenet_v2")),
        ("RetinaNet", "resnet101", {"head_depth": 2}),
        ("RetinaNet", "resnet50", {"p6_from": "P5"}),
        ("RetinaNet", "resnet18", {"levels": (2, 7)}),
        ("RetinaNet", "resnet18", {"levels": (3, 4), "head_depth": 1}),
        ("RetinaNet", "mobilenet_v2", {"levels": (4, 7)}),
        ("FasterRCNN", "resnet50", {}),
        ("FasterRCNN", "mobilenet_v2", {"box_head_channels": 128}),
        ("FasterRCNN", "resnet18", {"levels": (3, 6)}),
    ],
)
def test_arguments_are_those_of_the_model(kind: str, backbone: str, arguments: dict) -> None:
    given = {"preset": "mmdetection", "fpn_channels": 16} | arguments
    with torch.device("meta"):
        model = getattr(models, kind)(backbone, 3, **given)
    found = architecture(model.state_dict())
    built: dict[str, Any] = model.build.init_args
    expected = {
        "backbone": backbone,
        "num_classes": 3,
        "fpn_channels": 16,
        "levels": tuple(built["levels"]),
    }
    if kind == "RetinaNet":
        expected |= {"head_depth": built["head_depth"]}
        expected |= {"p6_from": built["p6_from"]} if built["levels"][1] == 7 else {}
    else:
        expected |= {"box_head_channels": built["box_head_channels"]}
    assert found.kind == kind
    assert found.arguments == expected
    assert found.anchors == (9 if kind == "RetinaNet" else 3)


@pytest.mark.parametrize(
    ("backbone", "arguments"),
    [("resnet18", {}), ("resnet50", {"head_depth": 2}), ("mobilenet_v2", {"levels": (3, 5)})],
)
def test_arguments_of_a_gfl(backbone: str, arguments: dict) -> None:
    with torch.device("meta"):
        model = models.GFL(backbone, 3, fpn_channels=32, **arguments)
    found = architecture(model.state_dict())
    usual = {"backbone": backbone, "num_classes": 3, "fpn_channels": 32, "head_depth": 4}
    assert found.kind == "GFL"
    assert found.arguments == usual | {"levels": (3, 7)} | arguments
    assert found.anchors == 1


def test_a_gfl_of_other_bins_is_refused() -> None:
    with torch.device("meta"):
        tensors = models.GFL("resnet18", 3, fpn_channels=32).state_dict()
    tensors["head.regression_head.bbox_reg.bias"] = torch.zeros(32)
    with pytest.raises(ValueError, match="32 rows of boxes, and limbeck's GFL 68"):
        architecture(tensors)


def test_what_p6_is_computed_from_is_not_guessed_where_shapes_do_not_tell() -> None:
    with torch.device("meta"):
        model = models.RetinaNet("resnet18", 3, preset="detectron2", fpn_channels=512)
    assert "p6_from" not in architecture(model.state_dict()).arguments


@pytest.mark.parametrize("name", ["resnet18", "resnet152", "mobilenet_v2"])
def test_trunks_by_themselves(name: str) -> None:
    with torch.device("meta"):
        network = torchvision.models.get_model(name)
    found = architecture(network.state_dict())
    assert (found.kind, found.arguments) == ("trunk", {"backbone": name})


def test_a_trunk_that_no_detector_has_is_refused_with_what_was_found() -> None:
    blocks = models.BasicBlocks((1, 2, 1), (4, 8, 8))
    model = models.RetinaNet(blocks, 2, levels=(3, 4), fpn_channels=8)
    with pytest.raises(ValueError, match=r"\[1, 2, 1, 0\] basic blocks, expected resnet18"):
        trunk_of(model.state_dict())
    with pytest.raises(ValueError, match=r"found names such as features.0.weight"):
        trunk_of(torchvision.models.squeezenet1_1().state_dict())


def test_a_pyramid_on_other_maps_is_refused_with_their_channels() -> None:
    tensors = small_detector("RetinaNet", "resnet18")
    tensors["backbone.fpn.inner_blocks.1.0.weight"] = torch.zeros(4, 5, 1, 1)
    with pytest.raises(
        ValueError, match=r"\[8, 5, 32\] channels from a resnet18.*\[4, 8, 16, 32\]"
    ):
        architecture(tensors)


def test_a_detector_without_its_head_is_refused_with_the_name() -> None:
    with torch.device("meta"):
        second = torchvision.models.detection.fasterrcnn_resnet50_fpn_v2(
            weights=None, weights_backbone=None
        )
    with pytest.raises(ValueError, match=r"a FasterRCNN's, but 'roi_heads.box_head.fc6.bias'"):
        architecture(small(second))


def test_kinds() -> None:
    assert kind_of(["backbone.body.conv1.weight", "head.x.weight"]) == "RetinaNet"
    assert kind_of(["backbone.body.conv1.weight", "roi_heads.x.weight"]) == "FasterRCNN"
    assert kind_of(["backbone.conv1.weight", "roi_heads.x.weight"]) == "FasterRCNNC4"
    assert kind_of(["conv1.weight", "head.weight"]) == "trunk"


@pytest.mark.parametrize("name", ["vgg11", "vgg16"])
def test_a_vgg_is_told_by_the_places_of_its_convolutions(name: str) -> None:
    with torch.device("meta"):
        features = torchvision.models.get_model(name).features.state_dict()
    for prefix in ("", "features.", "backbone."):
        assert trunk_of({f"{prefix}{key}": value for key, value in features.items()}) == name


def test_without_a_pyramid_the_names_do_not_say_how_it_is_run() -> None:
    with pytest.raises(ValueError, match=r"without a pyramid.*the folder of a student"):
        architecture({"backbone.0.weight": torch.zeros(1), "roi_heads.x.weight": torch.zeros(1)})


@pytest.mark.parametrize("arguments", [{}, {"head_depth": 2, "levels": (3, 5)}])
def test_fcos_is_no_retinanet(arguments: dict) -> None:
    given = {"backbone": "resnet18", "num_classes": 3, "fpn_channels": 64} | arguments
    with torch.device("meta"):
        model = models.FCOS(**given)
    found = architecture(torchvision_names.read(model.state_dict()))
    assert found.kind == "FCOS"
    assert found.arguments == {"levels": (3, 7), "head_depth": 4} | given


@pytest.mark.parametrize(
    "arguments",
    [
        {"backbone": "vgg16"},
        {"backbone": "mobilenet_v3_large", "reduced_tail": True},
        {"backbone": "mobilenet_v3_large", "reduced_tail": False},
        {"backbone": "mobilenet_v2", "levels": (3, 8), "extra_channels": (256, 128, 64)},
        {"backbone": "resnet18", "levels": (4, 6), "extra_channels": (64,), "lite": True},
        {"backbone": "resnet50", "levels": (2, 4), "lite": False},
    ],
)
def test_ssds_arguments_are_those_of_the_model(arguments: dict) -> None:
    with torch.device("meta"):
        model = models.SSD(num_classes=7, **arguments)
    found = architecture(model.state_dict())
    light = {"lite": False} if "levels" in arguments else {}
    assert (found.kind, found.arguments) == ("SSD", {"num_classes": 7} | light | arguments)


def test_an_ssd_without_a_head_for_boxes_is_refused() -> None:
    with torch.device("meta"):
        tensors = models.SSD("vgg16", 7).state_dict()
    del tensors["head.regression_head.module_list.0.bias"]
    with pytest.raises(ValueError, match=r"an? SSD's, but .*regression_head\.module_list\.0\.bias"):
        architecture(tensors)
