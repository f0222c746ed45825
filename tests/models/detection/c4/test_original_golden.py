"""The preset ``fgfi`` against numbers of the original code, and against a plain reference."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.models import BasicBlocks, FasterRCNNC4
from limbeck.models.detection.c4 import pooling as single_map_pooling
from limbeck.models.detection.c4.anchors import IntegerAnchorGenerator
from limbeck.models.detection.c4.inclusive_boxes import clip, exclusive, inclusive, iou
from limbeck.models.detection.parts.matcher import PADDED_SIZE
from limbeck.models.detection.parts.roi_heads import l1_losses
from tests.models.detection.c4.plain_original import detect, original_tensors
from tests.models.detection.published import Tensors, golden

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
TINY = BasicBlocks((1, 1, 1), (4, 4, 4))
BASES = {"base_8_16_32": (8, 16, 32), "base_4_8_16_32": (4, 8, 16, 32)}


@pytest.fixture(scope="module")
def model() -> FasterRCNNC4:
    """Any detector with the preset, in training mode."""
    return FasterRCNNC4(TINY, 3, preset="fgfi", box_head_channels=8).train()


def read(shared: Path, name: str) -> Tensors:
    return golden(shared / f"golden/fgfi/{name}.npz")


@pytest.mark.parametrize("name", [*BASES, "base_2_3_ratio3"])
def test_base_anchors(name: str, shared: Path) -> None:
    ratios = (0.5, 1.0, 2.0) if name in BASES else (1 / 3, 1.5, 3)
    sizes = [16 * scale for scale in BASES.get(name, (2, 3))]
    cell = inclusive(IntegerAnchorGenerator(sizes, ratios).cell_anchors[0])
    assert torch.equal(cell.double(), read(shared, "frcnn_anchors")[name])


def anchors(model: FasterRCNNC4, height: int, width: int) -> Tensor:
    """Of the detector's own generator, exclusive, (height * width * 9, 4)."""
    generator = model.rpn.anchor_generator
    return generator.grid_anchors([[height, width]], [])[0]


def test_a_grid_of_anchors(model: FasterRCNNC4, shared: Path) -> None:
    expected = read(shared, "frcnn_anchors")["grid_5x7_stride16_8_16_32"]
    assert torch.equal(inclusive(anchors(model, 5, 7)), expected)


def test_encoding_and_decoding(model: FasterRCNNC4, shared: Path) -> None:
    held = read(shared, "frcnn_boxes")
    boxes, truth = exclusive(held["ex_boxes"]), exclusive(held["gt_boxes"])
    encoded = model.rpn.box_coder.encode([truth], [boxes])[0]
    torch.testing.assert_close(encoded, held["encode"], **CLOSE)
    deltas = held["decode.deltas"][0]
    decoded = model.rpn.box_coder.decode(deltas, [boxes])
    torch.testing.assert_close(inclusive(decoded).flatten(1), held["decode.boxes"][0], **CLOSE)
    stds = torch.tensor([0.1, 0.1, 0.2, 0.2] * 2)
    of_heads = model.roi_heads.box_coder.decode(deltas / stds, [boxes])
    torch.testing.assert_close(of_heads, decoded, **CLOSE)
    height, width = held["decode.image_hw"].tolist()
    clipped = inclusive(clip(decoded, (height, width)))
    torch.testing.assert_close(clipped.flatten(1), held["decode.clipped"][0], **CLOSE)


def test_overlaps(shared: Path) -> None:
    held = read(shared, "frcnn_boxes")
    found = iou(exclusive(held["iou.gt"][:, :4]), exclusive(held["iou.anchors"]))
    torch.testing.assert_close(found.T, held["iou.value"], **CLOSE)


def test_smooth_l1(model: FasterRCNNC4, shared: Path) -> None:
    held = read(shared, "frcnn_boxes")
    inside, outside = held["sl1.inside"], held["sl1.outside"]
    # Rows of four are whole boxes here: where the original's weight is 0, nothing differs.
    predicted = torch.where(inside > 0, held["sl1.pred"], held["sl1.target"]).reshape(-1, 4)
    rows = len(predicted) // 2
    _, loss = model.rpn.compute_loss(
        torch.zeros(2 * rows, 1),
        predicted,
        [torch.ones(rows)] * 2,
        list(held["sl1.target"].reshape(2, rows, 4)),
    )
    mean = loss * 2 * rows * outside.max() / 2
    torch.testing.assert_close(mean, held["sl1.rpn_sigma3"], **CLOSE)

    target = held["sl1.rcnn_target"]
    predicted = torch.where(held["sl1.rcnn_inside"] > 0, held["sl1.rcnn_pred"], target)
    count = len(target)
    losses = l1_losses(
        torch.zeros(count, 2),
        torch.cat([torch.zeros(count, 4), predicted], dim=1),
        torch.ones(count, dtype=torch.int64),
        target,
        model.roi_heads.beta,
    )
    torch.testing.assert_close(losses["loss_box_reg"], held["sl1.rcnn_sigma1"], **CLOSE)


def test_targets_of_the_region_proposal_network(model: FasterRCNNC4, shared: Path) -> None:
    held = read(shared, "frcnn_rpn_targets")
    height, width = held["feat_hw"].tolist()
    real = held["gt"][held["gt"].sum(1) > 0]
    target = {"boxes": exclusive(real[:, :4]), PADDED_SIZE: held["image_hw"]}
    every = anchors(model, height, width)
    (labels,), (truth,) = model.rpn.assign_targets_to_anchors([every], [target])
    by_anchor = labels.view(height, width, 9).permute(2, 0, 1)
    assert torch.equal(by_anchor.reshape(9 * height, width), held["labels"].float())
    wanted = model.rpn.box_coder.encode([truth], [every])[0].view(height, width, 9, 4)
    k, y, x = held["fg_index"].long().T
    assert len(k) == (labels == 1).sum()
    torch.testing.assert_close(wanted[y, x, k], held["fg_targets"], **CLOSE)
    assert 1 / (labels >= 0).sum() == pytest.approx(held["outside_weight_value"].item())


def test_pooling_of_regions(shared: Path) -> None:
    held = read(shared, "frcnn_roi_pooling")
    features = {"0": held["feat"]}
    boxes = [exclusive(held["rois"][held["rois"][:, 0] == i, 1:]) for i in range(2)]
    order = held["rois"][:, 0].argsort(stable=True)
    align = single_map_pooling.SingleMapPooling("align", 16, 7)
    torch.testing.assert_close(
        align(features, boxes, []), held["align_avg_7x7"][order], rtol=1e-4, atol=1e-4
    )
    cells = held["rois"] / torch.tensor([1.0, 16, 16, 16, 16])
    nodes = single_map_pooling.lattice(held["feat"], cells, 8)
    torch.testing.assert_close(nodes, held["raw_8x8"], **CLOSE)
    features, boxes = {"0": held["crop.feat"]}, [exclusive(held["crop.rois"][:, 1:])]
    crop = single_map_pooling.SingleMapPooling("crop", 16, 7)
    torch.testing.assert_close(crop(features, boxes, []), held["crop.no_maxpool_7x7"], **CLOSE)
    finer = single_map_pooling.SingleMapPooling("crop", 16, 14)(features, boxes, [])
    torch.testing.assert_close(F.max_pool2d(finer, 2), held["crop.maxpool_7x7"], **CLOSE)


@pytest.mark.usefixtures("narrow_vggs")
@pytest.mark.parametrize(("name", "agnostic"), [("vgg11", False), ("vgg16", True)])
def test_a_file_of_the_original_gives_its_detections(
    name: str, agnostic: bool, tmp_path: Path
) -> None:
    tensors = original_tensors(name, 3, 32, agnostic)
    # As its trainer keeps it, with a student's adaptation layer.
    adapter = {"stu_feature_adap.0.weight": torch.ones(1), "stu_feature_adap.0.bias": torch.ones(1)}
    held = {"session": 1, "epoch": 8, "model": tensors | adapter, "pooling_mode": "align"}
    path = tmp_path / "faster_rcnn_1_7_10021.pth"
    torch.save(held | {"class_agnostic": agnostic, "optimizer": {}}, path)
    ours = FasterRCNNC4(name, 3, weights=path, box_head_channels=32, min_size=160).eval()
    image = torch.rand(3, 96, 131)
    expected = detect(tensors, image, 160)
    found = ours([image])[0]
    assert len(expected) > 15
    torch.testing.assert_close(found["scores"], expected[:, 1], **CLOSE)
    torch.testing.assert_close(found["labels"].float(), expected[:, 0])
    torch.testing.assert_close(inclusive(found["boxes"]), expected[:, 2:], rtol=1e-3, atol=1e-2)
