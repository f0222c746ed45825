"""detectron2's detectors: what was not written down with its reference models."""

from functools import partial
from pathlib import Path

import pytest
import torch

from limbeck.checkpoints.libraries import detectron2, mmdetection, torchvision
from limbeck.models import FasterRCNN, RetinaNet
from tests.checkpoints.manifests import Manifest, assert_same, counted_detector, manifests

tiny = partial(counted_detector, preset="detectron2", fpn_channels=8)


@manifests(detectron2)
def test_names_are_recognised(manifest: Manifest, shared: Path) -> None:
    theirs = manifest.theirs(shared)
    assert detectron2.recognises(theirs)
    assert not mmdetection.recognises(theirs)
    assert not torchvision.recognises(theirs)


def test_what_holds_no_weights_is_left_out() -> None:
    theirs = detectron2.write(tiny(FasterRCNN), bgr=True)
    old = {
        "pixel_mean": torch.zeros(3, 1, 1),
        "pixel_std": torch.ones(3, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.4": torch.zeros(3, 4),
        "anchor_generator.cell_anchors.0": torch.zeros(9, 4),
    }
    assert_same(detectron2.read(theirs | old, bgr=True), detectron2.read(theirs, bgr=True))


def test_only_the_first_convolution_knows_of_bgr() -> None:
    theirs = detectron2.write(tiny(RetinaNet), bgr=False)
    rgb, bgr = (detectron2.read(theirs, bgr=flag) for flag in (False, True))
    assert [k for k in rgb if not torch.equal(rgb[k], bgr[k])] == ["backbone.body.conv1.weight"]
    weight = "backbone.body.conv1.weight"
    assert torch.equal(rgb[weight][:, [2, 1, 0]], bgr[weight])


@pytest.mark.parametrize(("levels", "first"), [((2, 7), 2), ((4, 7), 4), ((3, 4), 3)])
def test_levels_are_numbered_by_their_strides(levels: tuple[int, int], first: int) -> None:
    theirs = detectron2.write(tiny(RetinaNet, levels=levels), bgr=True)
    laterals = sorted(name for name in theirs if "lateral" in name and name.endswith("weight"))
    last = min(levels[1], 5)
    expected = [f"backbone.fpn_lateral{k}.weight" for k in range(first, last + 1)]
    assert laterals == expected


def test_several_sizes_of_an_rpn_change_their_order() -> None:
    sizes = [[8.0 * 2**k, 16.0 * 2**k] for k in range(5)]
    ours = tiny(FasterRCNN, anchor_sizes=sizes)
    theirs = detectron2.write(ours, bgr=True)
    objectness = ours["rpn.head.cls_logits.bias"]  # by ratio, then size
    found = theirs["proposal_generator.rpn_head.objectness_logits.bias"]
    assert torch.equal(found, objectness[[0, 2, 4, 1, 3, 5]])
    assert torch.equal(detectron2.read(theirs, bgr=True)["rpn.head.cls_logits.bias"], objectness)


def test_another_number_of_aspect_ratios() -> None:
    sizes = [(32.0, 40.0)] * 5
    ours = tiny(RetinaNet, anchor_sizes=sizes, aspect_ratios=(1.0, 2.0))
    with pytest.raises(ValueError, match="16 box rows are not four for each anchor of 3 aspect"):
        detectron2.write(ours, bgr=True)
    theirs = detectron2.write(ours, bgr=True, ratios=2)
    order = [0, 2, 1, 3]
    name = "head.regression_head.bbox_reg.bias"
    expected = ours[name].view(4, 4)[order].flatten()
    assert torch.equal(theirs["head.bbox_pred.bias"], expected)
    assert torch.equal(detectron2.read(theirs, bgr=True, ratios=2)[name], ours[name])


def test_mobilenet_v2_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no MobileNetV2\. Write the detector in mmdetection's"):
        detectron2.write(tiny(RetinaNet, "mobilenet_v2"), bgr=True)


def test_boxes_that_all_classes_share_are_refused() -> None:
    theirs = detectron2.write(tiny(FasterRCNN), bgr=True)
    for name in ("weight", "bias"):
        key = f"roi_heads.box_predictor.bbox_pred.{name}"
        theirs[key] = theirs[key][:4]
    with pytest.raises(ValueError, match="4 rows of boxes for 6 rows of classes: expected 20"):
        detectron2.read(theirs, bgr=True)


@pytest.mark.parametrize(
    "name",
    [
        "head.cls_subnet.1.weight",  # a head with normalisation
        "backbone.fpn_lateral3.norm.weight",
        "roi_heads.mask_head.mask_fcn1.weight",
        "backbone.bottom_up.res4.0.conv2_offset.weight",
    ],
)
def test_what_is_not_in_the_table_is_refused(name: str) -> None:
    theirs = detectron2.write(tiny(RetinaNet), bgr=True) | {name: torch.zeros(1)}
    with pytest.raises(
        ValueError, match=r"(?s)^1 of \d+ tensors .* without normalisation"
    ) as error:
        detectron2.read(theirs, bgr=True)
    assert name in str(error.value)
