"""Faster R-CNN's presets against outputs of mmdetection and detectron2."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from limbeck.frame import network_frame
from limbeck.models import FasterRCNN
from tests.models.detection.published import (
    Tensors,
    checkpoint_images,
    checkpoint_weights,
    file_of,
    golden,
    head_batch,
    head_weights,
    matches,
    normalised,
)

CLOSE = {"rtol": 1e-4, "atol": 2e-5}
CONTENTS = [(128, 160), (120, 150)]


def background_last(values: Tensor) -> Tensor:
    """Class columns in the order of detectron2 and mmdetection."""
    return torch.cat([values[:, 1:], values[:, :1]], dim=1)


def heads(model: FasterRCNN, features: Tensors, boxes: list[Tensor]) -> list[Tensor]:
    """Pooled features, both fully connected layers, class logits and deltas of given regions."""
    pooled = model.roi_heads.box_roi_pool(features, boxes, [])
    first = model.roi_heads.box_head.fc6(pooled.flatten(1)).relu()
    second = model.roi_heads.box_head.fc7(first).relu()
    logits, deltas = model.roi_heads.box_predictor(second)
    return [pooled, first, second, background_last(logits), deltas[:, 4:]]


def proposals(model: FasterRCNN, features: Tensors, batch) -> list[dict[str, Tensor]]:
    """Of each image: boxes and scores, without labels."""
    kept = []
    filtered = model.rpn.filter_proposals
    model.rpn.filter_proposals = lambda *of_batch: kept.append(filtered(*of_batch)) or kept[0]
    model.rpn(batch, features)
    del model.rpn.filter_proposals
    return [
        {"boxes": boxes, "scores": scores, "labels": torch.zeros(len(boxes), dtype=torch.int64)}
        for boxes, scores in zip(*kept[0], strict=True)
    ]


@pytest.mark.slow
@torch.no_grad()
def test_mmdetections_r50(shared: Path, tmp_path: Path) -> None:
    expected = golden(shared / "golden/head/e2e_faster_rcnn_r50.npz")
    file = file_of(tmp_path, "mmdetection", head_weights(shared, "faster_rcnn_r50_fpn"))
    model = FasterRCNN("resnet50", 80, weights=f"mmdetection:{file}").eval()
    normalised(model, head_batch(), CONTENTS)
    batch, _ = model.transform([])
    features = model.backbone(batch.tensors)
    objectness, deltas = model.rpn.head(list(features.values()))
    for k, level in enumerate(features.values()):
        torch.testing.assert_close(level[:, ::16], expected[f"neck.{k}.every16"], **CLOSE)
        torch.testing.assert_close(objectness[k], expected[f"rpn_cls.{k}"], **CLOSE)
        torch.testing.assert_close(deltas[k][:, ::3], expected[f"rpn_reg.{k}"], **CLOSE)
    for i, found in enumerate(proposals(model, features, batch)):
        best = expected[f"proposals200.{i}"]
        nothing = torch.zeros(len(best), dtype=torch.int64)
        assert matches(found, best[:, :4], best[:, 4], nothing) >= 199
    rois = expected["rois"]
    boxes = [rois[rois[:, 0] == i, 1:] for i in (0, 1)]
    pooled, first, second, logits, regression = heads(model, features, boxes)
    torch.testing.assert_close(pooled[:, ::16], expected["roi_feat.every16"], **CLOSE)
    torch.testing.assert_close(first[:, ::8], expected["fc1.every8"], **CLOSE)
    torch.testing.assert_close(second[:, ::8], expected["fc2.every8"], **CLOSE)
    torch.testing.assert_close(logits, expected["cls_score"], **CLOSE)
    torch.testing.assert_close(regression[:, ::5], expected["bbox_pred.every5"], **CLOSE)
    detections, _ = model.roi_heads(features, boxes, CONTENTS)
    for i, found in enumerate(detections):
        boxes, labels = expected[f"det_boxes.{i}"], expected[f"det_labels.{i}"] + 1
        assert len(found["boxes"]) == len(boxes)
        assert matches(found, boxes[:, :4], boxes[:, 4], labels) == len(boxes)


@pytest.fixture(scope="module")
def detectron2_r50(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> FasterRCNN:
    """Its weights are of MSRA: BGR from 0 to 255, strides in the first convolution."""
    weights = checkpoint_weights(shared, "d2", "faster_rcnn_R50")
    file = file_of(tmp_path_factory.mktemp("detectron2"), "detectron2", weights)
    return FasterRCNN("resnet50", 80, weights=file).eval()


@pytest.mark.slow
@torch.no_grad()
def test_detectron2s_r50(shared: Path, detectron2_r50: FasterRCNN) -> None:
    model, expected = detectron2_r50, golden(shared / "golden/checkpoints/d2_faster_rcnn_R50.npz")
    with network_frame(model):
        batch, _ = model.transform(checkpoint_images())
    features = model.backbone(batch.tensors)
    objectness, deltas = model.rpn.head(list(features.values()))
    levels = list(features.values())
    anchors = model.rpn.anchor_generator(batch, levels)[0]
    counts = [3 * level.shape[-2] * level.shape[-1] for level in levels]
    for k, (level, of_level) in enumerate(zip(levels, anchors.split(counts), strict=True)):
        torch.testing.assert_close(level.flatten()[::143], expected[f"sample/p{k + 2}"], **CLOSE)
        torch.testing.assert_close(objectness[k], expected[f"rpn/logits/{k}"], **CLOSE)
        sample = deltas[k].flatten()[::13]
        torch.testing.assert_close(sample, expected[f"sample/rpn/deltas/{k}"], **CLOSE)
        assert torch.equal(of_level, expected[f"rpn/anchors/{k}"])
    for i, found in enumerate(proposals(model, features, batch)):
        boxes = expected[f"proposals/{i}/boxes"]
        scores = expected[f"proposals/{i}/logits"].sigmoid()
        nothing = torch.zeros(len(boxes), dtype=torch.int64)
        assert len(found["boxes"]) == len(boxes)
        assert matches(found, boxes, scores, nothing) == len(boxes)
    fixed = [expected["fixed_rois"]] * 2
    pooled, _, _, logits, regression = heads(model, features, fixed)
    torch.testing.assert_close(pooled.flatten()[::13], expected["sample/fixed_pooled"], **CLOSE)
    torch.testing.assert_close(logits, expected["fixed_cls_logits"], **CLOSE)
    torch.testing.assert_close(regression, expected["fixed_box_deltas"], **CLOSE)


@pytest.mark.slow
@torch.no_grad()
def test_detectron2s_detections(shared: Path, detectron2_r50: FasterRCNN) -> None:
    model, expected = detectron2_r50, golden(shared / "golden/checkpoints/d2_faster_rcnn_R50.npz")
    heads = model.roi_heads
    for kind, thresholds in {"default": (0.05, 100), "loose": (0.02, 1000)}.items():
        heads.score_thresh, heads.detections_per_img = thresholds
        with network_frame(model):
            found = model(checkpoint_images())
        for i, of_image in enumerate(found):
            boxes, scores, labels = (
                expected[f"det/{kind}/{i}/{part}"] for part in ("boxes", "scores", "labels")
            )
            assert len(of_image["boxes"]) == len(boxes)
            assert matches(of_image, boxes, scores, labels + 1) == len(boxes)
