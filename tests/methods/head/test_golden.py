"""HEAD against the authors' code: proposals, sampling, the assist's losses, AKD and CKD."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from limbeck import Distillation
from limbeck.frame import Frame
from limbeck.methods import HEAD, Side, Step
from limbeck.methods.head.akd import AKD
from limbeck.methods.head.assist import Assist, hidden_layers
from limbeck.methods.head.ckd import CKD, cells
from limbeck.methods.head.dense_student import teacher_layers
from limbeck.methods.head.method import WARM_UP
from limbeck.methods.head.proposals import Predictions, Proposals, propose
from limbeck.methods.head.regions import Regions, best_truth, samples_of
from limbeck.models import FasterRCNN, RetinaNet
from tests.models.detection.head_fixtures import (
    LEVELS,
    SIZES,
    TINY,
    anchors_of,
    flat,
)
from tests.models.detection.published import Tensors, golden, head_batch, head_weights, renamed

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def dense(shared: Path) -> Tensors:
    return golden(shared / "golden/head/retina_head.npz")


@pytest.fixture(scope="module")
def sampling(shared: Path) -> Tensors:
    return golden(shared / "golden/head/assist_sampling.npz")


@pytest.fixture(scope="module")
def distilled(shared: Path) -> Tensors:
    return golden(shared / "golden/head/akd_ckd.npz")


# -- regions --------------------------------------------------------------------------------------


def predicted(dense: Tensors) -> Predictions:
    """The head's recorded outputs, for images of 64 x 96 and 60 x 80."""
    model = RetinaNet(TINY, 3, preset="mmdetection", fpn_channels=4, head_depth=1)
    scores = [flat(dense[f"in.cls.{k}"], 3).amax(-1).sigmoid() for k in LEVELS]
    anchors = list(anchors_of(model).split([level.shape[1] for level in scores]))
    return Predictions(
        scores=scores,
        deltas=[flat(dense[f"in.reg.{k}"], 4) for k in LEVELS],
        anchors=[anchors] * 2,
        cells=SIZES,
        sizes=((64, 96), (60, 80)),
        decode=model.box_coder.decode_single,
    )


@pytest.mark.parametrize(
    ("name", "limits"), [("full", (HEAD().settings.proposals,)), ("pre30_max40", (40, 30))]
)
def test_proposals_are_the_authors(dense: Tensors, name: str, limits: tuple[int, ...]) -> None:
    for i, found in enumerate(propose(predicted(dense), *limits)):
        expected = dense[f"proposals_{name}.{i}"]
        rows = torch.cat([found.boxes, found.scores[:, None], found.positions.float()], dim=1)
        assert rows.shape == expected.shape
        assert found.positions.dtype == torch.int64
        near = ((rows[:, None] - expected).abs() < 1e-4).all(dim=2)
        assert near.any(dim=0).all()  # near-equal scores may stand in another order


def proposals(sampling: Tensors, image: int) -> Proposals:
    rows = sampling[f"in.proposals.{image}"]
    return Proposals(rows[:, :4], rows[:, 4], rows[:, 5:].long())


def target(sampling: Tensors, image: int) -> Tensors:
    return {"boxes": sampling[f"in.gt.{image}"], "labels": sampling[f"in.label.{image}"] + 1}


@pytest.mark.parametrize(("name", "count"), [("nochoice", 4096), ("num32", 32)])
@pytest.mark.parametrize("image", [0, 1])
def test_sampling_is_mmdetections(sampling: Tensors, name: str, count: int, image: int) -> None:
    torch.manual_seed(100 + image)
    (found,) = samples_of([proposals(sampling, image)], [target(sampling, image)], count)
    expected = {
        key.removeprefix(f"{name}.").removesuffix(f".{image}"): value
        for key, value in sampling.items()
        if key.startswith(f"{name}.") and key.endswith(f".{image}")
    }
    assert torch.equal(found.boxes, expected["bboxes"])
    assert torch.equal(found.positions, expected["bbox_ids"].long())
    positives = len(expected["pos_inds"])
    assert torch.equal(found.labels[:positives], expected["pos_gt_labels"] + 1)
    assert not found.labels[positives:].any()
    truth = sampling[f"in.gt.{image}"][expected["pos_assigned_gt_inds"].long()]
    assert torch.equal(found.truth[:positives], truth)


@pytest.mark.parametrize("image", [0, 1])
def test_assignment_is_mmdetections(sampling: Tensors, image: int) -> None:
    truth, boxes = target(sampling, image)["boxes"], proposals(sampling, image).boxes
    assert torch.equal(best_truth(truth, boxes), sampling[f"assign.gt_inds.{image}"].long() - 1)


# -- the assist -----------------------------------------------------------------------------------


def test_regions_are_pooled_as_the_authors_pool_them(shared: Path) -> None:
    case = golden(shared / "golden/head/roi_extract.npz")
    pool = Assist((3, 6), channels=3, classes=3, width=2).box_roi_pool
    maps = {str(k): case[f"student.feat.{k}"].float() for k in range(4)}
    by_image = case["rois"][:, 0].argsort(stable=True)
    boxes = [case["rois"][case["rois"][:, 0] == i, 1:] for i in (0, 1)]
    pooled = pool(maps, boxes, [])
    torch.testing.assert_close(pooled, case["student.out"][by_image], rtol=1e-5, atol=1e-5)


def background_first(values: Tensor, columns: int = 1) -> Tensor:
    return torch.cat([values[:, -columns:], values[:, :-columns]], dim=1)


def test_losses_and_gradients_of_the_assist_are_mmdetections(shared: Path) -> None:
    case = golden(shared / "golden/head/assist_loss.npz")
    logits, deltas = (case[name].requires_grad_() for name in ("cls_score", "bbox_pred"))
    nothing = torch.zeros(len(deltas), 4)
    assist = Assist((3, 6), channels=1, classes=3, width=2)
    assist.box_predictor.forward = lambda _: (
        background_first(logits),
        torch.cat([nothing, deltas], dim=1),
    )
    labels = (case["labels"] + 1) % 4
    rois = case["rois"]
    truth = assist_boxes(rois[:, 1:], case["bbox_targets"])
    boxes = [rois[rois[:, 0] == i, 1:] for i in (0, 1)]
    found = assist.losses(torch.zeros(0), Regions(boxes, torch.zeros(0), labels, truth))
    expected = [case["loss_cls"], case["loss_bbox"]]
    torch.testing.assert_close(list(found.values()), expected, rtol=1e-5, atol=1e-5)
    sum(found.values()).backward()
    torch.testing.assert_close(logits.grad, case["grad_cls"], **CLOSE)
    torch.testing.assert_close(deltas.grad, case["grad_reg"], **CLOSE)


def assist_boxes(boxes: Tensor, targets: Tensor) -> Tensor:
    """The ground truth that mmdetection encoded."""
    x, y, w, h = (targets * torch.tensor([0.1, 0.1, 0.2, 0.2])).unbind(1)
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + sides / 2 + sides * torch.stack([x, y], 1)
    sides = sides * torch.stack([w, h], 1).exp()
    return torch.cat([centres - sides / 2, centres + sides / 2], dim=1)


# -- AKD and CKD ----------------------------------------------------------------------------------


def box_head(case: Tensors, side: str) -> nn.Module:
    head = TwoMLPHead(12, 16)
    for i, name in enumerate(("fc6", "fc7")):
        prefix = f"param.{side}.roi_head.bbox_head.shared_fcs.{i}."
        layer = {key: case[prefix + key] for key in ("weight", "bias")}
        head.get_submodule(name).load_state_dict(layer)
    return head


def towers(case: Tensors, features: list[Tensor]) -> list[Tensor]:
    for i in (0, 1):
        prefix = f"param.student.rpn_head.cls_convs.{i}.conv."
        weights = case[prefix + "weight"], case[prefix + "bias"]
        features = [F.relu(F.conv2d(level, *weights, padding=1)) for level in features]
    return features


def adapter(case: Tensors, index: int) -> Tensors:
    return {key: case[f"param.distiller._adapts.{index}.{key}"] for key in ("weight", "bias")}


def test_akd_and_ckd_are_the_authors(distilled: Tensors) -> None:
    case = distilled
    regions = case["in.x_student"].requires_grad_()
    features = [case[f"in.feat.{k}"].requires_grad_() for k in LEVELS]
    hidden = hidden_layers(box_head(case, "student"), regions)
    with torch.no_grad():
        hints = hidden_layers(box_head(case, "teacher"), case["in.x_teacher"])
    torch.testing.assert_close(hidden, [case["t.rcnn_bbox_aux"], case["t.rcnn_bbox"]], **CLOSE)
    akd, ckd = AKD(hidden, hints), CKD(8, 16, 9, "shared")
    for k, layer in enumerate(akd.adapters):
        layer.load_state_dict(adapter(case, k))
    ckd.adapter.load_state_dict(adapter(case, 5))
    tower = towers(case, features)
    torch.testing.assert_close(tower, [case[f"t.retina_cls.{k}"] for k in LEVELS], **CLOSE)
    losses = akd(hidden, hints) | {"ckd": ckd(tower, case["in.bbox_ids"].long(), hints[-1])}
    names = ("loss_mimic_rcnn_aux", "loss_mimic_rcnn", "loss_cross")
    for step in (0, 1, 500, 2000, 50000):
        weighted = [WARM_UP.at(step) * loss.detach() for loss in losses.values()]
        torch.testing.assert_close(weighted, [case[f"it{step}.{n}"] for n in names], **CLOSE)
    (2 * sum(losses.values())).backward()
    torch.testing.assert_close(regions.grad, case["grad.x_student"], **CLOSE)
    for k in LEVELS:
        torch.testing.assert_close(features[k].grad, case[f"grad.feat.{k}"], **CLOSE)
    for k, layer in {0: akd.adapters[0], 1: akd.adapters[1], 5: ckd.adapter}.items():
        for key in ("weight", "bias"):
            expected = case[f"grad.distiller._adapts.{k}.{key}"]
            torch.testing.assert_close(getattr(layer, key).grad, expected, **CLOSE)


def test_cells_are_the_authors(distilled: Tensors) -> None:
    positions = distilled["in.bbox_ids"].long()
    positions = positions[positions[:, 1] >= 0]
    maps = [distilled[f"t.retina_cls.{k}"] for k in LEVELS]
    assert torch.equal(cells(maps, positions), distilled["t.retina_cls_indexed"])
    assert torch.equal(positions[:, [1, 0, 2, 3]], distilled["t.bbox_poses"].long())
    assert torch.equal(positions[:, 4], distilled["t.anchor_ids"].long())


def test_an_adapter_for_each_anchor_is_the_authors(shared: Path) -> None:
    case = golden(shared / "golden/head/adapters.npz")
    ckd = CKD(8, 6, 9, "per_anchor")
    ckd.adapter.load_state_dict({"weight": case["decouple_w"], "bias": case["decouple_b"]})
    found = ckd.adapt(case["decouple_feat"], case["decouple_id"].long())
    torch.testing.assert_close(found, case["decouple_out"], **CLOSE)


@torch.no_grad()
def test_the_teachers_hidden_layers_are_mmdetections(shared: Path) -> None:
    case = golden(shared / "golden/head/e2e_faster_rcnn_r50.npz")
    teacher = FasterRCNN("resnet50", 80, preset="mmdetection").eval()
    weights = head_weights(shared, "faster_rcnn_r50_fpn")
    teacher.load_state_dict(renamed(shared, weights, "mmdet_faster_rcnn_r50_fpn"))
    features = teacher.backbone(head_batch())
    frame = Frame((128, 160), ((128, 160), (120, 150)), None)
    student = Side(nn.Identity(), {"frame": frame})
    step = Step([], None, student, Side(teacher, {"akd": features}), number=0, world_size=1)
    rois = case["rois"]
    found = teacher_layers(step, [rois[rois[:, 0] == i, 1:] for i in (0, 1)])
    for layer, name in zip(found, ("fc1", "fc2"), strict=True):
        torch.testing.assert_close(layer[:, ::8], case[f"{name}.every8"], rtol=1e-4, atol=2e-5)


def test_adapters_and_assist_have_the_published_shapes(shared: Path) -> None:
    keys = json.loads((shared / "golden/head/state_dict_keys.json").read_text())
    published = keys["head_retina_faster_r18_fpn"]
    student = RetinaNet("resnet18", 80, preset="mmdetection")
    pair = Distillation(student, FasterRCNN("resnet50", 80, preset="mmdetection"), [HEAD()])
    shapes = {name: list(value.shape) for name, value in pair.methods["HEAD"].named_parameters()}
    expected = {}
    for name, places in {
        "akd.adapters.0": "_distiller._adapts.0",
        "akd.adapters.1": "_distiller._adapts.1",
        "ckd.adapter": "_distiller._adapts.5",
        "assist.box_head.fc6": "roi_head.bbox_head.shared_fcs.0",
        "assist.box_head.fc7": "roi_head.bbox_head.shared_fcs.1",
        "assist.box_predictor.cls_score": "roi_head.bbox_head.fc_cls",
        "assist.box_predictor.bbox_pred": "roi_head.bbox_head.fc_reg",
    }.items():
        for part in ("weight", "bias"):
            expected[f"{name}.{part}"] = published[f"{places}.{part}"]
    # Boxes are predicted for the background, too, by torchvision's head.
    for part in ("weight", "bias"):
        expected[f"assist.box_predictor.bbox_pred.{part}"][0] += 4
    assert shapes == expected
