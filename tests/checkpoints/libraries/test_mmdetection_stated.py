"""mmdetection's configuration, read as data."""

import time
from pathlib import Path

import pytest
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from limbeck.checkpoints.libraries.mmdetection_stated import stated_by_mmdetection
from limbeck.checkpoints.libraries.stated import Stated
from tests.checkpoints.libraries.configurations import (
    MMDETECTION_2,
    MMDETECTION_3,
    ONE,
    assert_octaves,
)


def test_mmdetection_3() -> None:
    found = stated_by_mmdetection(MMDETECTION_3, ("cat", "dog"))
    assert found == Stated(
        meta_arch="retinanet",
        stride_in_1x1=True,
        bgr=True,
        mean=IMAGENET_DEFAULT_MEAN,
        std=ONE,
        num_classes=20,
        classes=("cat", "dog"),
        anchor_sizes=found.anchor_sizes,
        aspect_ratios=(0.5, 1.0, 2.0),
        p6_from="P5",
        relu_before_p7=False,
        min_size=600,
        max_size=1000,
        score_threshold=0.1,
        nms_threshold=0.6,
        detections_per_image=100,
        frozen_stages=2,
    )
    assert_octaves(found.anchor_sizes)


# Of LD's student, mmdetection 2, cut to what is read.
LD = """
model = dict(
    type='KnowledgeDistillationSingleStageDetector',
    pretrained='torchvision://resnet18',
    teacher_config='configs/gfl/gfl_r101_fpn_mstrain_2x_coco.py',
    backbone=dict(type='ResNet', depth=18, frozen_stages=1, style='pytorch'),
    neck=dict(
        type='FPN', in_channels=[64, 128, 256, 512], out_channels=256, start_level=1,
        add_extra_convs='on_output', num_outs=5),
    bbox_head=dict(
        type='LDHead', num_classes=80,
        anchor_generator=dict(
            type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1,
            strides=[8, 16, 32, 64, 128]),
        reg_max=16),
    test_cfg=dict(
        nms_pre=1000, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100))
"""


def test_a_gfl_is_not_told_what_is_no_argument_of_it() -> None:
    found = stated_by_mmdetection(LD)
    assert found == Stated(
        meta_arch="gfl",
        stride_in_1x1=None,
        num_classes=80,
        score_threshold=0.05,
        nms_threshold=0.6,
        detections_per_image=100,
        frozen_stages=2,
    )


@pytest.mark.parametrize(
    ("said", "other"),
    [
        ("'on_output'", "'on_input'"),
        ("num_outs=5", "num_outs=5, relu_before_extra_convs=True"),
        ("ratios=[1.0]", "center_offset=0.5, ratios=[1.0]"),
    ],
)
def test_a_gfl_of_other_levels_or_anchors_is_refused(said: str, other: str) -> None:
    with pytest.raises(ValueError, match=r"limbeck's (GFL computes P6 from P5|detectors have)"):
        stated_by_mmdetection(LD.replace(said, other))


def test_mmdetection_2() -> None:
    assert stated_by_mmdetection(MMDETECTION_2) == Stated(
        meta_arch="faster_rcnn",
        stride_in_1x1=False,
        bgr=False,
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        num_classes=3,
        anchor_sizes=((32,), (64,), (128,), (256,), (512,)),
        aspect_ratios=(0.5, 1.0),
        min_size=800,
        max_size=1333,
        score_threshold=0.05,
        nms_threshold=0.5,
        detections_per_image=50,
        frozen_stages=0,
    )


def test_mmdetection_text_is_not_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    text = f"""
import os
os.system('touch {touched}')
x = open({str(touched)!r}, 'w')
model = dict(
    type='RetinaNet',
    backbone=dict(type='ResNet', depth=(lambda: 50)(), style='pytorch'),
    bbox_head=dict(num_classes=len(classes), anchor_generator=None),
    test_cfg={{'score_thr': 0.3, **dict(max_per_img=7), open('x'): 1}})
"""
    found = stated_by_mmdetection(text)
    assert found == Stated(
        meta_arch="retinanet", stride_in_1x1=False, score_threshold=0.3, detections_per_image=7
    )
    assert not touched.exists()


def test_mmdetection_names_that_double_end() -> None:
    doubled = "".join(f"s{i + 1} = dict(type='T', transforms=[s{i}, s{i}])\n" for i in range(60))
    text = f"s0 = dict(type='T')\n{doubled}test_pipeline = [s60]\n"
    assert stated_by_mmdetection(text) == Stated()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = dict(", "no Python"),
        (MMDETECTION_3.replace("'on_output'", "'on_lateral'"), "is 'on_lateral'"),
        (MMDETECTION_3.replace("type='AnchorGenerator'", "type='LegacyAnchorGenerator'"), "anchor"),
        (MMDETECTION_3.replace("num_classes=20", "num_classes='20'"), "is '20', expected int"),
        (MMDETECTION_3.replace("strides=[8,", "strides=[None,"), "strides is .* expected numbers"),
    ],
)
def test_mmdetection_configurations_that_do_not_fit(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stated_by_mmdetection(text)


def test_other_detectors_say_what_they_can() -> None:
    text = MMDETECTION_3.replace("mmdet.RetinaNet", "SSD").replace("AnchorG", "SSDAnchorG")
    found = stated_by_mmdetection(text)
    assert (found.meta_arch, found.anchor_sizes, found.p6_from) == (None, None, None)
    assert found.mean == IMAGENET_DEFAULT_MEAN


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = " + "[" * 5000 + "]" * 5000, "is no Python"),
        ("model = " + "(" * 50_000 + "1", "is no Python"),
        (f"model = {'9' * 5000}", "is no Python"),
        ("x = 1\n" * 200_000, "has 1,200,000 characters: expected at most 1,048,576"),
        (
            "model = dict(type='RetinaNet', bbox_head=dict(anchor_generator=dict("
            "type='AnchorGenerator', strides=[8], octave_base_scale=4, scales_per_octave=10**18)))",
            None,  # no literal: nothing is said
        ),
        (
            "model = dict(type='RetinaNet', bbox_head=dict(anchor_generator=dict("
            "type='AnchorGenerator', strides=[8], octave_base_scale=4, scales_per_octave=999999)))",
            "scales_per_octave is 999999, expected 1 to 100",
        ),
        (
            "a = [1]\n" + "a = [a, a]\n" * 60 + "model = dict(type='RetinaNet', "
            "backbone=dict(act_cfg=a), neck=dict(add_extra_convs=a))",
            "add_extra_convs is .*: limbeck's",
        ),
    ],
)
def test_absurd_configurations_are_told_at_once(text: str, message: str | None) -> None:
    begin = time.process_time()
    if message is None:
        assert stated_by_mmdetection(text).anchor_sizes is None
    else:
        with pytest.raises(ValueError, match=message) as error:
            stated_by_mmdetection(text)
        assert len(str(error.value)) < 1000
    assert time.process_time() - begin < 5
