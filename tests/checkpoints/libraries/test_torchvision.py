"""torchvision's own detectors: older names, and class columns."""

import pytest
import torch
from torch import nn
from torchvision.models import detection

from limbeck.checkpoints.libraries import detectron2, mmdetection, torchvision
from limbeck.checkpoints.tensors import COCO_IDS
from limbeck.models import RetinaNet
from tests.checkpoints.manifests import Tensors, assert_same, counted_like

LOGITS = "head.classification_head.cls_logits"
SCORES = "roi_heads.box_predictor.cls_score"
BOXES = "roi_heads.box_predictor.bbox_pred"


def stock(builder: str, classes: int = 91) -> nn.Module:
    """torchvision's model, without memory."""
    with torch.device("meta"):
        return getattr(detection, builder)(weights=None, weights_backbone=None, num_classes=classes)


def older(tensors: Tensors) -> Tensors:
    """The names until torchvision 0.12: pyramid and heads without the inner ``0``."""
    names = {}
    for name in tensors:
        layer, _, leaf = name.rpartition(".")
        parts = layer.split(".")
        if ".inner_blocks." in name or ".layer_blocks." in name or name.startswith("rpn.head.conv"):
            parts = parts[:-1] if parts[1] == "fpn" else ["rpn", "head", "conv"]
        elif name.startswith("head.") and ".conv." in name:
            parts = [*parts[:3], str(2 * int(parts[3]))]
        names[name] = ".".join([*parts, leaf])
    return {names[name]: value for name, value in tensors.items()}


@pytest.mark.parametrize("builder", ["retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn"])
def test_older_names(builder: str) -> None:
    current = counted_like(stock(builder))
    old = older(current)
    assert old.keys() != current.keys()
    assert torchvision.recognises(old)
    assert_same(torchvision.up_to_date(old), current)
    assert_same(torchvision.read(old), torchvision.read(current))


@pytest.mark.parametrize(
    "builder",
    [
        "retinanet_resnet50_fpn",
        "retinanet_resnet50_fpn_v2",
        "fcos_resnet50_fpn",
        "fasterrcnn_resnet50_fpn",
        "fasterrcnn_resnet50_fpn_v2",
        "fasterrcnn_mobilenet_v3_large_fpn",
    ],
)
@pytest.mark.parametrize("coco_ids", [False, True])
def test_what_is_written_loads_in_torchvision(builder: str, coco_ids: bool) -> None:
    model = stock(builder)
    tensors = counted_like(model)
    ours = torchvision.read(tensors, coco_ids=coco_ids)
    written = torchvision.write(ours, coco_ids=coco_ids)
    model.load_state_dict(written, assign=True)
    changed = [name for name in tensors if not torch.equal(written[name], tensors[name])]
    layers = {name.rpartition(".")[0] for name in changed}
    if builder.startswith(("retinanet", "fcos")):
        assert layers == {LOGITS}
    else:
        assert layers == ({SCORES, BOXES} if coco_ids else set())
    assert_same(torchvision.read(written, coco_ids=coco_ids), ours)


def test_retinanets_unused_column() -> None:
    tensors = counted_like(stock("retinanet_resnet50_fpn", 4))
    ours, given = torchvision.read(tensors)[f"{LOGITS}.bias"], tensors[f"{LOGITS}.bias"]
    assert torch.equal(ours.view(9, 3), given.view(9, 4)[:, 1:])
    back = torchvision.write(torchvision.read(tensors))
    bias, weight = back[f"{LOGITS}.bias"].view(9, 4), back[f"{LOGITS}.weight"].unflatten(0, (9, 4))
    assert torch.equal(bias[:, 1:], given.view(9, 4)[:, 1:])
    assert (bias[:, 0] == -100).all()
    assert (weight[:, 0] == 0).all()


def test_retinanets_80_classes_of_91() -> None:
    tensors = counted_like(stock("retinanet_resnet50_fpn"))
    ours = torchvision.read(tensors, coco_ids=True)
    bias, given = ours[f"{LOGITS}.bias"].view(9, 80), tensors[f"{LOGITS}.bias"].view(9, 91)
    for column, coco_id in ((0, 1), (11, 13), (79, 90)):
        assert torch.equal(bias[:, column], given[:, coco_id])
    unused = sorted(set(range(91)) - set(COCO_IDS))
    assert (torchvision.write(ours, coco_ids=True)[f"{LOGITS}.bias"].view(9, 91)[:, unused] == -100).all()  # fmt: skip # noqa: E501


def test_faster_rcnns_80_classes_of_91() -> None:
    tensors = counted_like(stock("fasterrcnn_resnet50_fpn"))
    ours = torchvision.read(tensors, coco_ids=True)
    scores, boxes = ours[f"{SCORES}.bias"], ours[f"{BOXES}.bias"].view(81, 4)
    for row, coco_id in ((0, 0), (1, 1), (12, 13), (80, 90)):
        assert scores[row] == tensors[f"{SCORES}.bias"][coco_id]
        assert torch.equal(boxes[row], tensors[f"{BOXES}.bias"].view(91, 4)[coco_id])
    back = torchvision.write(ours, coco_ids=True)
    unused = sorted(set(range(1, 91)) - set(COCO_IDS))
    assert (back[f"{SCORES}.bias"][unused] == -100).all()
    assert (back[f"{BOXES}.bias"].view(91, 4)[unused] == 0).all()


@pytest.mark.parametrize(
    ("builder", "layer"), [("ssd300_vgg16", "1"), ("ssdlite320_mobilenet_v3_large", "1.1")]
)
def test_ssds_80_classes_of_91(builder: str, layer: str) -> None:
    model = stock(builder)
    tensors = counted_like(model)
    assert torchvision.recognises(tensors)
    assert_same(torchvision.read(tensors), tensors)
    ours = torchvision.read(tensors, coco_ids=True)
    place = f"head.classification_head.module_list.{layer}.bias"
    bias, given = ours[place].view(6, 81), tensors[place].view(6, 91)
    for column, coco_id in ((0, 0), (1, 1), (12, 13), (80, 90)):
        assert torch.equal(bias[:, column], given[:, coco_id])
    back = torchvision.write(ours, coco_ids=True)
    unused = sorted(set(range(1, 91)) - set(COCO_IDS))
    assert (back[place].view(6, 91)[:, unused] == -100).all()
    model.load_state_dict(back, assign=True)
    changed = {name for name in tensors if not torch.equal(back[name], tensors[name])}
    assert {name.partition(".module_list")[0] for name in changed} == {"head.classification_head"}


@pytest.mark.parametrize(
    ("builder", "classes", "found"),
    [
        ("retinanet_resnet50_fpn", 21, 21),
        ("fasterrcnn_resnet50_fpn", 81, 81),
        ("ssd300_vgg16", 81, 81),
    ],
)
def test_only_coco_has_coco_ids(builder: str, classes: int, found: int) -> None:
    tensors = counted_like(stock(builder, classes))
    with pytest.raises(ValueError, match=rf"{found} columns .* one of COCO has 91\. Leave out"):
        torchvision.read(tensors, coco_ids=True)
    with pytest.raises(ValueError, match=r"one of COCO has 8[01]"):
        torchvision.write(torchvision.read(counted_like(stock(builder, 30))), coco_ids=True)


def test_half_a_retinanet() -> None:
    tensors = counted_like(stock("retinanet_resnet50_fpn", 4))
    del tensors["head.regression_head.bbox_reg.weight"]
    with pytest.raises(ValueError, match=r"has no head\.regression_head\.bbox_reg\.weight beside"):
        torchvision.read(tensors)


def test_the_training_state_of_limbecks_retinanet_is_left_out() -> None:
    with torch.device("meta"):
        model = RetinaNet("resnet18", 5, preset="detectron2", fpn_channels=8)
    ours = counted_like(model)
    assert "loss_normaliser" in ours
    written = torchvision.write(ours)
    assert "loss_normaliser" not in written
    with torch.device("meta"):
        plain = RetinaNet("resnet18", 5, fpn_channels=8)
    # Its P6 is computed of another level, so that these shapes alone differ.
    p6 = "backbone.fpn.extra_blocks.p6.weight"
    plain.load_state_dict(written | {p6: plain.state_dict()[p6]}, assign=True)


@pytest.mark.parametrize("library", [detectron2, mmdetection])
@pytest.mark.parametrize("builder", ["retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn"])
def test_stock_torchvision_in_the_other_libraries_names(builder: str, library) -> None:
    ours = torchvision.read(counted_like(stock(builder)), coco_ids=True)
    theirs = library.write(ours, bgr=False)
    read = library.read(theirs, bgr=False)
    names = [name for name in ours if not name.startswith(BOXES)]
    for name in names if library is mmdetection else read.keys() & set(names):
        assert torch.equal(read[name], ours[name]), name


@pytest.mark.parametrize("library", [detectron2, mmdetection])
def test_normalised_heads_cannot_be_written_elsewhere(library) -> None:
    ours = torchvision.read(counted_like(stock("retinanet_resnet50_fpn_v2")))
    with pytest.raises(ValueError, match=r"conv\.0\.1\.weight"):
        library.write(ours, bgr=False)
