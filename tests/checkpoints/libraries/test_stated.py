"""Configurations of both libraries, side by side."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from limbeck.checkpoints.libraries.detectron2 import Detectron2
from limbeck.checkpoints.libraries.detectron2_config import detectron2_config, stated_by_detectron2
from limbeck.checkpoints.libraries.mmdetection import MMDetection
from limbeck.checkpoints.libraries.mmdetection_stated import stated_by_mmdetection
from limbeck.checkpoints.libraries.mmdetection_written import mmdetection_config
from limbeck.checkpoints.libraries.stated import Stated
from limbeck.checkpoints.reading.files import read_file
from tests.checkpoints.libraries.configurations import (
    DETECTRON2,
    FASTER_RCNN,
    MMDETECTION_2,
    MMDETECTION_3,
    RETINANET_SIZES,
)


def test_configurations_are_found_in_a_checkpoint_and_beside_it(tmp_path: Path) -> None:
    weights = {"w": torch.ones(1)}

    def stated(**beside: Any) -> Stated:
        torch.save({"state_dict": weights, **beside}, tmp_path / "kept.pth")
        contents = read_file(tmp_path / "kept.pth")
        return MMDetection().stated(contents) if beside else Detectron2().stated(contents)

    assert stated() == Stated()
    assert stated(meta={}) == Stated()
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
