from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from limbeck.checkpoints.libraries.mmdetection_written import detectron2_config, mmdetection_config
from limbeck.checkpoints.libraries.stated import (
    Stated,
    stated_by_detectron2,
    stated_by_mmdetection,
    stated_in,
)
from limbeck.checkpoints.reading.files import read_file

OCTAVES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
RETINANET_SIZES = tuple(tuple(4 * 2**level * o for o in OCTAVES) for level in range(3, 8))
ONE = (1 / 255,) * 3

# What Detectron2 keeps of its defaults and Base-RetinaNet.yaml in an output folder's config.yaml,
# cut to what is read; one tuple as older versions wrote it.
DETECTRON2 = """
INPUT:
  FORMAT: BGR
  MAX_SIZE_TEST: 1333
  MIN_SIZE_TEST: 800
  MIN_SIZE_TRAIN: !!python/tuple
  - 640
  - 800
MODEL:
  ANCHOR_GENERATOR:
    ASPECT_RATIOS:
    - - 0.5
      - 1.0
      - 2.0
    NAME: DefaultAnchorGenerator
    SIZES:
    - [32, 40.31747359663594, 50.79683366298238]
    - [64, 80.63494719327188, 101.59366732596476]
  BACKBONE:
    FREEZE_AT: 2
    NAME: build_retinanet_resnet_fpn_backbone
  META_ARCHITECTURE: RetinaNet
  PIXEL_MEAN: !!python/tuple [103.53, 116.28, 123.675]
  PIXEL_STD: [1.0, 1.0, 1.0]
  RESNETS:
    DEPTH: 50
    STRIDE_IN_1X1: true
  RETINANET:
    IN_FEATURES: [p3, p4]
    NMS_THRESH_TEST: 0.5
    NUM_CLASSES: 80
    SCORE_THRESH_TEST: 0.05
  ROI_HEADS:
    NUM_CLASSES: 7
    SCORE_THRESH_TEST: 0.7
  RPN:
    IN_FEATURES: [p2, p3, p4, p5, p6]
TEST:
  DETECTIONS_PER_IMAGE: 100
VERSION: 2
"""

# mmdetection 3, as its Config.pretty_text writes it.
MMDETECTION_3 = """
default_scope = 'mmdet'
model = dict(
    backbone=dict(
        depth=50, frozen_stages=1, norm_cfg=dict(requires_grad=True, type='BN'), style='caffe',
        type='ResNet'),
    bbox_head=dict(
        anchor_generator=dict(
            octave_base_scale=4, ratios=[0.5, 1.0, 2.0], scales_per_octave=3,
            strides=[8, 16, 32, 64, 128], type='AnchorGenerator'),
        num_classes=20,
        type='RetinaHead'),
    data_preprocessor=dict(
        bgr_to_rgb=False, mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0],
        type='DetDataPreprocessor'),
    neck=dict(add_extra_convs='on_output', num_outs=5, type='FPN'),
    test_cfg=dict(
        max_per_img=100, nms=dict(iou_threshold=0.6, type='nms'), score_thr=0.1),
    type='mmdet.RetinaNet')
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(keep_ratio=True, scale=(1000, 600), type='Resize'),
]
"""

# mmdetection 2.
MMDETECTION_2 = """
model = dict(
    type='FasterRCNN',
    pretrained=None,
    backbone=dict(type='ResNet', depth=101, frozen_stages=-1),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5),
    rpn_head=dict(
        type='RPNHead',
        anchor_generator=dict(
            type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0], strides=[4, 8, 16, 32, 64])),
    roi_head=dict(type='StandardRoIHead', bbox_head=dict(type='Shared2FCBBoxHead', num_classes=3)),
    train_cfg=None)
test_cfg = dict(
    rpn=dict(nms_pre=1000),
    rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_thr=0.5), max_per_img=50))
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
data = dict(
    samples_per_gpu=2,
    test=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                type='MultiScaleFlipAug',
                img_scale=(1333, 800),
                transforms=[
                    dict(type='Resize', keep_ratio=True),
                    dict(type='Normalize', **img_norm_cfg),
                ])
        ]))
"""


def close(found: Any, expected: Any) -> bool:
    return found == pytest.approx(expected, rel=1e-12)


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
    assert found.anchor_sizes is not None
    assert len(found.anchor_sizes) == 2
    assert all(map(close, found.anchor_sizes, RETINANET_SIZES))


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
    assert found.anchor_sizes is not None
    assert all(map(close, found.anchor_sizes, RETINANET_SIZES))


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
        ("model = " + "[" * 5000 + "]" * 5000, "no Python"),
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


def test_configurations_are_found_in_a_checkpoint_and_beside_it(tmp_path: Path) -> None:
    weights = {"w": torch.ones(1)}

    def stated(**beside: Any) -> Stated:
        torch.save({"state_dict": weights, **beside}, tmp_path / "kept.pth")
        return stated_in(read_file(tmp_path / "kept.pth"))

    assert stated() == Stated()
    three = {"cfg": MMDETECTION_3, "dataset_meta": {"classes": ("a", "b")}, "mmengine_version": "0"}
    assert stated(meta=three) == stated_by_mmdetection(MMDETECTION_3, ("a", "b"))
    two = {"config": MMDETECTION_2, "CLASSES": ["a"], "mmdet_version": "2.20.0+abc"}
    assert stated(meta=two) == stated_by_mmdetection(MMDETECTION_2, ("a",))
    assert stated(meta={"CLASSES": ("a",)}) == Stated(classes=("a",))
    with pytest.raises(ValueError, match=r"mmdet_version is 1\.2\.0.*upgrade_model_version"):
        stated(meta=two | {"mmdet_version": "1.2.0"})
    (tmp_path / "config.yaml").write_text(DETECTRON2)
    assert stated() == stated_by_detectron2(DETECTRON2)
    own = DETECTRON2.replace("NUM_CLASSES: 80", "NUM_CLASSES: 4")
    (tmp_path / "kept.yaml").write_text(own)
    assert stated() == stated_by_detectron2(own)


# -- the way back ---------------------------------------------------------------------------------

RETINANET = {
    "backbone": "resnet50",
    "num_classes": 3,
    "preset": "detectron2",
    "weights": None,
    "frozen_stages": 2,
    "stride_in_1x1": True,
    "min_size": 600,
    "max_size": 1000,
    "mean": None,
    "std": ONE,
    "score_threshold": 0.1,
    "nms_threshold": 0.6,
    "detections_per_image": 70,
}
FASTER_RCNN = {"backbone": "torchvision:resnet101", "num_classes": 5, "preset": "mmdetection"}


def expected(found: Stated, **changed: Any) -> Stated:
    """What was written for ``RETINANET``."""
    values: dict[str, Any] = {
        "meta_arch": "retinanet",
        "stride_in_1x1": True,
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": ONE,
        "num_classes": 3,
        "anchor_sizes": found.anchor_sizes,
        "aspect_ratios": (0.5, 1.0, 2.0),
        "p6_from": "C5",
        "relu_before_p7": True,
        "min_size": 600,
        "max_size": 1000,
        "score_threshold": 0.1,
        "nms_threshold": 0.6,
        "detections_per_image": 70,
        "frozen_stages": 2,
    }
    return Stated(**(values | changed))


@pytest.mark.parametrize("bgr", [True, False])
def test_what_is_written_for_detectron2_reads_back(bgr: bool) -> None:
    text = detectron2_config("retinanet", RETINANET, bgr=bgr, classes=("a", "b", "c"))
    found = stated_by_detectron2(text)
    assert found == expected(found, bgr=bgr)
    assert found.anchor_sizes is not None
    assert all(map(close, found.anchor_sizes, RETINANET_SIZES))
    assert "# classes: a, b, c" in text
    assert yaml.safe_load(text)["MODEL"]["FPN"]["IN_FEATURES"] == ["res3", "res4", "res5"]


@pytest.mark.parametrize("bgr", [True, False])
def test_what_is_written_for_mmdetection_reads_back(bgr: bool) -> None:
    text = mmdetection_config("retinanet", RETINANET, bgr=bgr, classes=("a", "b", "c"))
    found = stated_by_mmdetection(text)
    assert found == expected(found, bgr=bgr)
    assert found.anchor_sizes is not None
    assert all(map(close, found.anchor_sizes, RETINANET_SIZES))
    made: dict[str, Any] = {}
    exec(text, made)
    assert made["metainfo"] == {"classes": ("a", "b", "c")}
    assert made["model"]["neck"]["in_channels"] == [256, 512, 1024, 2048]
    assert made["model"]["neck"]["start_level"] == 1


def test_faster_rcnn_for_both() -> None:
    for found in (
        stated_by_detectron2(detectron2_config("faster_rcnn", FASTER_RCNN)),
        stated_by_mmdetection(mmdetection_config("faster_rcnn", FASTER_RCNN)),
    ):
        assert found == Stated(
            meta_arch="faster_rcnn",
            stride_in_1x1=False,
            bgr=False,
            mean=IMAGENET_DEFAULT_MEAN,
            std=IMAGENET_DEFAULT_STD,
            num_classes=5,
            anchor_sizes=((32,), (64,), (128,), (256,), (512,)),
            aspect_ratios=(0.5, 1.0, 2.0),
            min_size=800,
            max_size=1333,
            score_threshold=0.05,
            nms_threshold=0.5,
            detections_per_image=100,
            frozen_stages=0,
            roi_aligned=True,
        )


def test_roi_align_of_other_kinds_is_refused() -> None:
    pooler = "MODEL: {META_ARCHITECTURE: GeneralizedRCNN, ROI_BOX_HEAD: {POOLER_TYPE: %s, %s}}"
    stock = stated_by_detectron2(pooler % ("ROIAlign", "POOLER_SAMPLING_RATIO: 2"))
    assert stock.roi_aligned is False
    with pytest.raises(ValueError, match="RoIAlign is 'ROIAlign' with a sampling ratio of 0"):
        stated_by_detectron2(pooler % ("ROIAlign", "POOLER_SAMPLING_RATIO: 0"))
    layer = "model = dict(type='FasterRCNN', roi_head=dict(bbox_roi_extractor=dict(roi_layer={})))"
    align = "dict(type='RoIAlign', sampling_ratio=%d, aligned=%s)"
    assert stated_by_mmdetection(layer.format(align % (2, False))).roi_aligned is False
    with pytest.raises(ValueError, match="with a sampling ratio of 2"):
        stated_by_mmdetection(layer.format(align % (2, True)))


def test_what_the_presets_mean() -> None:
    plain = {"backbone": "resnet18", "num_classes": 3}  # torchvision's preset
    text = detectron2_config("retinanet", plain)
    assert yaml.safe_load(text)["TEST"] == {"DETECTIONS_PER_IMAGE": 300}
    assert yaml.safe_load(text)["MODEL"]["RESNETS"]["RES2_OUT_CHANNELS"] == 64
    assert yaml.safe_load(text)["MODEL"]["ANCHOR_GENERATOR"]["SIZES"][0] == [32, 40, 50]
    assert "# anchors are whole pixels" in text
    assert "P6 is computed from P5" in text
    found = stated_by_mmdetection(mmdetection_config("retinanet", plain))
    assert (found.p6_from, found.relu_before_p7) == ("P5", True)
    assert found.anchor_sizes is not None
    for of_level, exact in zip(found.anchor_sizes, RETINANET_SIZES, strict=True):
        assert of_level == pytest.approx(exact, abs=1)
    text = mmdetection_config("retinanet", plain)
    assert "# anchor sizes: [[32.0, 40.0, 50.0], [64.0, 80.0, 101.0]," in text
    pooler = yaml.safe_load(detectron2_config("faster_rcnn", plain))["MODEL"]["ROI_BOX_HEAD"]
    assert (pooler["POOLER_TYPE"], pooler["POOLER_SAMPLING_RATIO"]) == ("ROIAlign", 2)
    assert "'aligned': False" in mmdetection_config("faster_rcnn", plain)
    other = plain | {"preset": "mmdetection"}
    assert "# there is no ReLU between P6 and P7" in detectron2_config("retinanet", other)
    assert "ReLU" not in detectron2_config("faster_rcnn", other)
    own = detectron2_config("retinanet", plain | {"preset": "detectron2"})
    assert "cannot be said" not in own
    assert "anchor sizes" not in mmdetection_config("retinanet", other)


def test_anchors_that_are_not_four_strides() -> None:
    sizes = [[10, 20], [20, 40], [40, 80], [80, 160], [100, 200]]
    text = mmdetection_config("retinanet", RETINANET | {"anchor_sizes": sizes})
    found = stated_by_mmdetection(text).anchor_sizes
    assert found == tuple(tuple(float(s) for s in row) for row in sizes)
    sizes[0] = [10, 30]
    with pytest.raises(ValueError, match="the same scales on all levels"):
        mmdetection_config("retinanet", RETINANET | {"anchor_sizes": sizes})


def test_mobilenet_and_own_backbones() -> None:
    light = {"backbone": "mobilenet_v2", "num_classes": 3, "preset": "mmdetection"}
    made: dict[str, Any] = {}
    exec(mmdetection_config("retinanet", light), made)
    assert made["model"]["backbone"]["type"] == "MobileNetV2"
    assert made["model"]["neck"]["in_channels"] == [24, 32, 96, 1280]
    assert "act_cfg" not in made["model"]["backbone"]
    exec(mmdetection_config("retinanet", light | {"activation": "leaky_relu"}), made)
    leaky = {"type": "LeakyReLU", "negative_slope": 0.1}
    assert made["model"]["backbone"]["act_cfg"] == leaky
    with pytest.raises(ValueError, match="Detectron2 has residual networks alone"):
        detectron2_config("retinanet", light)
    with pytest.raises(ValueError, match="no other library has it"):
        mmdetection_config("retinanet", {"backbone": {"depths": [1]}, "num_classes": 1})
