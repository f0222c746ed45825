"""Detectron2's configuration, read as data and written."""

from pathlib import Path

import pytest
import yaml
from timm.data import IMAGENET_DEFAULT_MEAN

from limbeck.checkpoints.libraries.detectron2_config import detectron2_config, stated_by_detectron2
from limbeck.checkpoints.libraries.stated import Stated
from tests.checkpoints.libraries.configurations import (
    DETECTRON2,
    ONE,
    RETINANET,
    assert_octaves,
    expected,
)


def test_detectron2() -> None:
    found = stated_by_detectron2(DETECTRON2)
    assert found == Stated(
        meta_arch="retinanet",
        stride_in_1x1=True,
        bgr=True,
        mean=IMAGENET_DEFAULT_MEAN,
        std=ONE,
        num_classes=80,
        anchor_sizes=found.anchor_sizes,
        aspect_ratios=(0.5, 1.0, 2.0),
        p6_from="C5",
        relu_before_p7=True,
        min_size=800,
        max_size=1333,
        score_threshold=0.05,
        nms_threshold=0.5,
        detections_per_image=100,
        frozen_stages=2,
    )
    assert_octaves(found.anchor_sizes, levels=2)


def test_detectron2_faster_rcnn_has_its_own_head() -> None:
    text = DETECTRON2.replace("META_ARCHITECTURE: RetinaNet", "META_ARCHITECTURE: GeneralizedRCNN")
    text = text.replace("build_retinanet_resnet", "build_resnet").replace("BGR", "RGB")
    found = stated_by_detectron2(text.replace("DEPTH: 50", "DEPTH: 18"))
    assert (found.meta_arch, found.num_classes, found.score_threshold) == ("faster_rcnn", 7, 0.7)
    assert (found.p6_from, found.relu_before_p7, found.bgr) == (None, None, False)
    assert found.mean == IMAGENET_DEFAULT_MEAN[::-1]
    assert found.stride_in_1x1 is None  # no bottlenecks to stride


def test_detectron2_files_as_people_write_them() -> None:
    text = """
_BASE_: "../Base-RetinaNet.yaml"
MODEL:
  META_ARCHITECTURE: "RetinaNet"
  PIXEL_MEAN: (103.53, 116.28, 123.675)
  ANCHOR_GENERATOR:
    SIZES: !!python/object/apply:eval ["__import__('os').system('touch touched')"]
  RETINANET:
    IN_FEATURES: ["p3", "p4"]
INPUT: {FORMAT: BGR}
"""
    found = stated_by_detectron2(text)
    assert found.anchor_sizes is None
    assert found == Stated(meta_arch="retinanet", bgr=True, mean=IMAGENET_DEFAULT_MEAN)
    one = text.replace('!!python/object/apply:eval ["__import__', "[[32, 64]] # ")
    assert stated_by_detectron2(one).anchor_sizes == ((32, 64), (32, 64))


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {touched}']",
        "!!python/object/new:os.system ['touch {touched}']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!anything [1]",
    ],
)
def test_yaml_runs_nothing(tag: str, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    text = f"MODEL:\n  META_ARCHITECTURE: RetinaNet\n  X: {tag.format(touched=touched)}\n"
    assert stated_by_detectron2(text) == Stated(meta_arch="retinanet")
    assert not touched.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MODEL: {META_ARCHITECTURE: RetinaNet", "some/config.yaml is no YAML"),
        (DETECTRON2.replace("NUM_CLASSES: 80", "NUM_CLASSES: many"), "NUM_CLASSES is 'many', exp"),
        (DETECTRON2.replace("[1.0, 1.0, 1.0]", "[1.0, x]"), "PIXEL_STD is .*, expected numbers"),
        (DETECTRON2.replace("[1.0, 1.0, 1.0]", "[1.0]"), "PIXEL_STD is .*, expected three"),
        (DETECTRON2.replace("- [32, 4", "- 7\n    - [32, 4"), "SIZES is .*, expected lists"),
        (DETECTRON2.replace("      - 2.0", "      - 2.0\n    - [1.0]"), "the same ratios on all"),
    ],
)
def test_detectron2_configurations_that_do_not_fit(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stated_by_detectron2(text, "some/config.yaml")


@pytest.mark.parametrize("text", ["", "model: {a: 1}\n", "a: [", "- 1", "MODEL: x", "\x00"])
def test_yaml_of_other_programs_says_nothing(text: str) -> None:
    assert stated_by_detectron2(text) == Stated()


@pytest.mark.parametrize("bgr", [True, False])
def test_what_is_written_for_detectron2_reads_back(bgr: bool) -> None:
    text = detectron2_config("retinanet", RETINANET, bgr=bgr, classes=("a", "b", "c"))
    found = stated_by_detectron2(text)
    assert found == expected(found, bgr=bgr)
    assert_octaves(found.anchor_sizes)
    assert "# classes: a, b, c" in text
    assert yaml.safe_load(text)["MODEL"]["FPN"]["IN_FEATURES"] == ["res3", "res4", "res5"]


NAMES = (
    "cat", "a\nMODEL: {WEIGHTS: stolen}", "nul\0l", "\u2028x", "\x85", "\ud800", "a, b", "#", "%0A",
)  # fmt: skip


def test_names_of_classes_stay_in_their_comment() -> None:
    plain = yaml.safe_load(detectron2_config("retinanet", RETINANET))
    text = detectron2_config("retinanet", RETINANET, classes=NAMES)
    assert yaml.safe_load(text) == plain
    (line,) = (line for line in text.splitlines() if "classes: " in line)
    assert line.startswith("# classes: cat, a%0AMODEL: {WEIGHTS: stolen}, nul%00l, ")
    assert '"a, b"' in line
    text.encode()


def test_other_classes_are_another_comment() -> None:
    one, two, three = (
        detectron2_config("retinanet", RETINANET, classes=names)
        for names in (["a", "b"], ["a, b"], ['"a, b"'])
    )
    assert len({one, two, three}) == 3
