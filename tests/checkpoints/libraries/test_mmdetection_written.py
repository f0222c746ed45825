"""mmdetection's configuration as it is written, and read back."""

from typing import Any

import pytest

from limbeck.checkpoints.libraries.mmdetection_stated import stated_by_mmdetection
from limbeck.checkpoints.libraries.mmdetection_written import mmdetection_config
from tests.checkpoints.libraries.configurations import RETINANET, assert_octaves, expected


@pytest.mark.parametrize("bgr", [True, False])
def test_what_is_written_for_mmdetection_reads_back(bgr: bool) -> None:
    text = mmdetection_config("retinanet", RETINANET, bgr=bgr, classes=("a", "b", "c"))
    found = stated_by_mmdetection(text)
    assert found == expected(found, bgr=bgr)
    assert_octaves(found.anchor_sizes)
    made: dict[str, Any] = {}
    exec(text, made)
    assert made["metainfo"] == {"classes": ("a", "b", "c")}
    assert made["model"]["neck"]["in_channels"] == [256, 512, 1024, 2048]
    assert made["model"]["neck"]["start_level"] == 1


def test_a_gfl_is_written_as_mmdetections_and_reads_back() -> None:
    arguments = {"backbone": "resnet50", "num_classes": 3, "min_size": 600, "max_size": 1000}
    text = mmdetection_config("gfl", arguments)
    assert "What cannot be said here" in text.partition("\n")[0]  # losses, and the data
    made: dict[str, Any] = {}
    exec(text, made)
    model = made["model"]
    assert model["type"] == "GFL"
    assert model["neck"]["add_extra_convs"] == "on_output"
    assert model["neck"]["relu_before_extra_convs"] is False
    assert model["bbox_head"]["type"] == "GFLHead"
    assert model["bbox_head"]["anchor_generator"] == {
        "type": "AnchorGenerator",
        "ratios": [1.0],
        "strides": [8, 16, 32, 64, 128],
        "scales": [8.0],
    }
    assert model["test_cfg"]["nms"]["iou_threshold"] == 0.6
    assert model["test_cfg"]["max_per_img"] == 100
    found = stated_by_mmdetection(text)
    assert (found.meta_arch, found.nms_threshold, found.min_size) == ("gfl", 0.6, 600)
    assert found.anchor_sizes is found.aspect_ratios is found.p6_from is None


def test_anchors_that_are_not_four_strides() -> None:
    sizes = [[10, 20], [20, 40], [40, 80], [80, 160], [100, 200]]
    text = mmdetection_config("retinanet", RETINANET | {"anchor_sizes": sizes})
    found = stated_by_mmdetection(text).anchor_sizes
    assert found == tuple(tuple(float(s) for s in row) for row in sizes)
    sizes[0] = [10, 30]
    with pytest.raises(ValueError, match="the same scales on all levels"):
        mmdetection_config("retinanet", RETINANET | {"anchor_sizes": sizes})


NAMES = ("cat", "a\nmodel = None", "'); import os #", "nul\0l", "\u2028x", "\ud800", "x" * 300)


def test_names_of_classes_are_literals_of_python() -> None:
    text = mmdetection_config("retinanet", RETINANET, classes=NAMES)
    text.encode()
    made: dict[str, Any] = {}
    exec(text, made)
    assert made["metainfo"] == {"classes": NAMES}
    assert made["model"]["type"] == "RetinaNet"
