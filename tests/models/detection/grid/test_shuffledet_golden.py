"""ShuffleDet against what the published program gives: layers, anchors, targets, losses, masks."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from limbeck.methods.fgfi import imitation_masks
from limbeck.models import ShuffleDet
from limbeck.models.detection.grid.shuffledet import KITTI_ANCHORS, SpreadAnchors
from limbeck.models.detection.grid.squeezedet import (
    MatchedObjects,
    anchors_of_objects,
    encoded,
    safe_exp,
    squeezedet_loss,
)

GRID, SIZE = (24, 78), (384, 1248)
CASES = ["one", "three", "eight", "tiny", "huge", "duplicate", "corner"]
WIDTHS = {"1x_teacher": 1.0, "0.5x": 0.5, "0.25x": 0.25}


@pytest.fixture(scope="module")
def targets(shared):
    return np.load(shared / "golden/fgfi/shuffledet_targets.npz")


@pytest.fixture(scope="module")
def loss(shared):
    return np.load(shared / "golden/fgfi/shuffledet_loss.npz")


def xyxy(centre_form):
    """Corners of (..., 4) centre x, centre y, width, height."""
    centres, sides = np.split(np.asarray(centre_form, dtype=np.float64), 2, axis=-1)
    return torch.from_numpy(np.concatenate([centres - sides / 2, centres + sides / 2], axis=-1))


def executed(model, size):
    """(kind, channels in, channels out, kernel, stride, groups, height, width) of each layer."""
    layers = []

    def note(module, inputs, output):
        kind = type(module).__name__
        groups = getattr(module, "groups", None)
        kernel, stride = getattr(module, "kernel_size", None), getattr(module, "stride", None)
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups == module.in_channels
            kind, kernel, stride = "dwconv" if depthwise else "conv", kernel[0], stride[0]
        names = {"MaxPool2d": "maxpool", "AvgPool2d": "avgpool", "ChannelShuffle": "shuffle"}
        shape = inputs[0].shape[1], output.shape[1], *output.shape[2:]
        layers.append((names.get(kind, kind), kernel, stride, groups, *shape))

    kinds = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.ChannelShuffle)
    for module in model.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(note)
    model.eval().head(model.backbone(torch.zeros(1, 3, *size)))
    return layers


def published(layer, scale):
    """The same of the published table, whose images are ``scale`` times as large."""
    kind = {"channel_shuffle": "shuffle"}.get(layer["kind"], layer["kind"])
    height, width = layer["out_hw"]
    groups = layer.get("groups") if kind in ("conv", "dwconv", "shuffle") else None
    shape = layer["cin"], layer["cout"], height // scale, width // scale
    return (kind, layer.get("k"), layer.get("stride"), groups, *shape)


@pytest.mark.parametrize("name", WIDTHS)
def test_layers_are_the_published_ones(shared, name):
    table = json.loads((shared / "golden/fgfi/shuffledet_architecture.json").read_text())[name]
    model = ShuffleDet(WIDTHS[name], 3)
    found = executed(model, (SIZE[0] // 6, SIZE[1] // 6))  # whose sides are multiples of 16, too
    assert found == [published(layer, 6) for layer in table["layers"]]
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(m.weight.numel() for m in convolutions) + 72 == table["conv_params"]
    assert sum(2 * m.num_features for m in norms) == table["bn_affine"] == table["bn_stats"]
    assert [m.bias.numel() for m in convolutions if m.bias is not None] == [72]
    total = table["conv_params"] + table["bn_affine"]
    assert sum(p.numel() for p in model.parameters()) == total


def test_anchors(targets):
    anchors = SpreadAnchors(KITTI_ANCHORS)
    assert np.allclose(anchors.shapes, targets["anchor_shapes_wh"])
    assert np.allclose(anchors.centres(78, 1248), targets["center_x"])
    assert np.allclose(anchors.centres(24, 384), targets["center_y"])
    on_grid = anchors.on(GRID, SIZE).view(*GRID, 9, 4)
    assert torch.allclose(on_grid[..., 0] + on_grid[..., 2], on_grid[:1, :, :1, 0] * 2 + 36)


@pytest.mark.parametrize("case", CASES)
def test_targets(targets, case):
    boxes = xyxy(targets[f"{case}.gt_cxcywh_scaled"])
    anchors = SpreadAnchors(KITTI_ANCHORS).on(GRID, SIZE).double()
    expected = torch.from_numpy(targets[f"{case}.anchor_index"])
    overlaps = box_iou(boxes, anchors)
    rows = torch.arange(len(boxes))
    # Anchors that lie wholly within a box overlap it alike: there rounding decides, here and there.
    best = overlaps[rows, expected]
    (found,) = anchors_of_objects([boxes], anchors)
    assert torch.allclose(overlaps[rows, found], best, atol=1e-6)
    alone = (overlaps > best[:, None] - 1e-6).sum(dim=1) == 1
    assert found[alone].tolist() == expected[alone].tolist()
    deltas = torch.from_numpy(targets[f"{case}.delta"])
    assert torch.allclose(encoded(boxes, anchors[expected]), deltas, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_imitation_masks(targets, case):
    boxes = xyxy(targets[f"{case}.gt_cxcywh_scaled"]).float()
    anchors = SpreadAnchors(KITTI_ANCHORS).on(GRID, SIZE)
    (mask,) = imitation_masks([anchors], [GRID], boxes)
    assert torch.equal(mask, torch.from_numpy(targets[f"{case}.mask"]))


def test_safe_exponent(loss):
    found = safe_exp(torch.from_numpy(loss["safe_exp.x"]))
    assert np.allclose(found, loss["safe_exp.y"])


def test_losses_and_gradients(loss):
    model = ShuffleDet(0.25, 3).double()
    size = tuple(loss["image_hw"].tolist())
    predicted = torch.from_numpy(loss["preds_nhwc"]).double().permute(0, 3, 1, 2).requires_grad_()
    image, anchor = np.nonzero(loss["input_mask"][..., 0])
    labels = torch.from_numpy(loss["labels"][image, anchor]).float().argmax(dim=1)
    matched = MatchedObjects(
        torch.from_numpy(image),
        torch.from_numpy(anchor),
        xyxy(loss["box"][image, anchor]),
        labels,
    )
    anchors = xyxy(loss["anchors_cxcywh"])
    losses = squeezedet_loss(matched, model.split(predicted), anchors, size)
    for ours, theirs in [
        ("classification", "class_loss"),
        ("confidence", "conf_loss"),
        ("bbox_regression", "bbox_loss"),
    ]:
        assert losses[ours].item() == pytest.approx(loss[theirs].item(), rel=1e-4), ours
    sum(losses.values()).backward()
    gradient = predicted.grad.permute(0, 2, 3, 1)
    assert np.allclose(gradient, loss["grad_preds"], rtol=1e-3, atol=1e-6)


def test_predictions(loss):
    model = ShuffleDet(0.25, 3).double()
    size = tuple(loss["image_hw"].tolist())
    predictions = model.split(torch.from_numpy(loss["preds_nhwc"]).double().permute(0, 3, 1, 2))
    assert np.allclose(predictions.logits.softmax(-1), loss["pred_class_probs"], rtol=1e-4)
    assert np.allclose(predictions.confidence.sigmoid(), loss["pred_conf"], rtol=1e-4)
    boxes, scores = model.decode(predictions, xyxy(loss["anchors_cxcywh"]), size)
    # Ours are exclusive and end where the published ones do before a pixel is added to them.
    theirs = xyxy(loss["det_boxes_cxcywh"]) - torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert np.allclose(boxes, theirs, atol=1e-3)
    best, column = scores.max(dim=-1)
    assert np.allclose(best, loss["det_probs"], rtol=1e-4)
    assert torch.equal(column, torch.from_numpy(loss["det_class"]))
