"""mmdetection's detectors: what was not written down with its reference models."""

from functools import partial
from pathlib import Path

import pytest
import torch

from limbeck.checkpoints.libraries import detectron2, mmdetection, torchvision
from limbeck.checkpoints.libraries import trunks as backbones
from limbeck.models import GFL, FasterRCNN, RetinaNet
from tests.checkpoints.manifests import (
    Manifest,
    assert_same,
    counted_detector,
    counted_like,
    manifests,
)

tiny = partial(counted_detector, preset="mmdetection", fpn_channels=8)


@manifests(mmdetection)
def test_names_are_recognised(manifest: Manifest, shared: Path) -> None:
    theirs = manifest.theirs(shared)
    assert mmdetection.recognises(theirs)
    assert not detectron2.recognises(theirs)
    assert not torchvision.recognises(theirs)


@pytest.mark.parametrize(
    ("backbone", "stem"),
    [("resnet18", "backbone.conv1.weight"), ("mobilenet_v2", "backbone.conv1.conv.weight")],
)
def test_only_the_first_convolution_knows_of_bgr(backbone: str, stem: str) -> None:
    ours = tiny(RetinaNet, backbone)
    rgb, bgr = (mmdetection.write(ours, bgr=flag) for flag in (False, True))
    assert [k for k in rgb if not torch.equal(rgb[k], bgr[k])] == [stem]
    assert torch.equal(rgb[stem][:, [2, 1, 0]], bgr[stem])


@pytest.mark.parametrize(("levels", "p6"), [((3, 7), 3), ((2, 7), 4), ((5, 7), 1)])
def test_extra_levels_follow_the_others(levels: tuple[int, int], p6: int) -> None:
    ours = tiny(RetinaNet, levels=levels)
    theirs = mmdetection.write(ours, bgr=False)
    for name, number in (("p6", p6), ("p7", p6 + 1)):
        expected = ours[f"backbone.fpn.extra_blocks.{name}.weight"]
        assert torch.equal(theirs[f"neck.fpn_convs.{number}.conv.weight"], expected)
    assert mmdetection.read(theirs, bgr=False).keys() >= ours.keys()


def test_counters_are_kept_and_begin_at_0() -> None:
    ours = tiny(RetinaNet, norm="trained")
    counter = "backbone.layer3.1.bn2.num_batches_tracked"
    written = mmdetection.write(ours, bgr=False)
    assert written[counter] == ours["backbone.body.layer3.1.bn2.num_batches_tracked"]
    begun = mmdetection.write(tiny(RetinaNet), bgr=False)
    assert begun.keys() == written.keys()
    assert begun[counter] == 0


def test_version_1_is_refused() -> None:
    theirs = mmdetection.write(tiny(FasterRCNN), bgr=False)
    old = {name.removeprefix("roi_head."): value for name, value in theirs.items()}
    with pytest.raises(ValueError, match=r"1\.x, whose classes .*/upgrade_model_version\.py first"):
        mmdetection.read(old, bgr=False)


def test_boxes_of_the_background_are_refused() -> None:
    theirs = mmdetection.write(tiny(FasterRCNN), bgr=False)
    for name in ("weight", "bias"):
        key = f"roi_head.bbox_head.fc_reg.{name}"
        theirs[key] = torch.cat([theirs[key], theirs[key][:4]])
    with pytest.raises(ValueError, match="24 rows of boxes for 6 rows of classes: expected 20"):
        mmdetection.read(theirs, bgr=False)


@pytest.mark.parametrize(
    "name",
    [
        "bbox_head.cls_convs.0.gn.weight",
        "neck.lateral_convs.0.bn.weight",
        "backbone.layer2.0.conv2_offset.weight",
        "backbone.layer1.1.expand_conv.conv.weight",  # MobileNetV2 has one block there
        "ema_backbone_conv1_weight",
    ],
)
def test_what_is_not_in_the_table_is_refused(name: str) -> None:
    theirs = mmdetection.write(tiny(RetinaNet), bgr=False) | {name: torch.zeros(1)}
    with pytest.raises(
        ValueError, match=r"(?s)^1 of \d+ tensors .* without normalisation"
    ) as error:
        mmdetection.read(theirs, bgr=False)
    assert name in str(error.value)


def test_the_trunk_of_a_detector_is_read_as_a_classifiers(shared: Path) -> None:
    for name in ("mmdet_retinanet_r18_fpn", "mmdet_retinanet_mobilenet_v2_fpn"):
        manifest = Manifest(name, mmdetection)
        trunk = {k: v for k, v in manifest.theirs(shared).items() if k.startswith("backbone.")}
        whole = manifest.read(manifest.theirs(shared))
        inside = "features." if "mobilenet" in name else ""
        expected = {
            inside + k.removeprefix("backbone.body."): v
            for k, v in whole.items()
            if k.startswith("backbone.body.")
        }
        assert_same(backbones.read(trunk, bgr=False), expected)


def gfl(**arguments) -> GFL:
    with torch.device("meta"):
        return GFL("resnet18", 5, **{"fpn_channels": 32, "norm": "trained"} | arguments)


# mmdetection's names of the head of a GFL with towers of one convolution on five levels.
GFL_HEAD = {
    *(
        f"bbox_head.{branch}_convs.0.{name}"
        for branch in ("cls", "reg")
        for name in ("conv.weight", "gn.weight", "gn.bias")
    ),
    *(f"bbox_head.gfl_{b}.{name}" for b in ("cls", "reg") for name in ("weight", "bias")),
    *(f"bbox_head.scales.{level}.scale" for level in range(5)),
    "bbox_head.integral.project",
}


def test_the_head_of_a_gfl_has_mmdetections_names() -> None:
    theirs = mmdetection.write(counted_like(gfl(head_depth=1)), bgr=False)
    assert {name for name in theirs if name.startswith("bbox_head.")} == GFL_HEAD
    assert theirs["bbox_head.scales.3.scale"].shape == ()
    assert theirs["bbox_head.integral.project"].tolist() == list(range(17))
    assert {n for n in theirs if n.startswith("neck.fpn_convs")} == {
        f"neck.fpn_convs.{i}.conv.{name}" for i in range(5) for name in ("weight", "bias")
    }


@pytest.mark.parametrize("arguments", [{}, {"levels": (2, 5), "head_depth": 2}])
def test_a_gfl_comes_back_with_every_bit(arguments: dict) -> None:
    model = gfl(**arguments)
    ours = counted_like(model)
    theirs = mmdetection.write(ours, bgr=True)
    assert mmdetection.recognises(theirs)
    read = mmdetection.read(theirs, bgr=True)
    assert_same(read, ours)
    model.load_state_dict(read, assign=True)  # strict: nothing is missing
    assert_same(mmdetection.write(read, bgr=True), theirs)
