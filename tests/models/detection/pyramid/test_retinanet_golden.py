"""RetinaNet's presets against outputs of mmdetection and detectron2."""

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from limbeck.frame import network_frame
from limbeck.models import RetinaNet
from limbeck.models.detection.parts.matcher import IGNORED, NEGATIVE, match_anchors
from tests.models.detection.head_fixtures import (
    CONTENTS,
    LEVELS,
    TINY,
    anchors_of,
    flat,
    objects,
)
from tests.models.detection.published import (
    TO_SIZE_MAJOR,
    Tensors,
    as_maps,
    checkpoint_images,
    checkpoint_weights,
    file_of,
    golden,
    head_batch,
    head_weights,
    matches,
    normalised,
)


@dataclass
class Dense:
    """What lies between a RetinaNet's input and its detections, by level."""

    features: list[Tensor]
    logits: list[Tensor]
    deltas: list[Tensor]
    anchors: list[Tensor]
    sizes: list[tuple[int, int]]

    @torch.no_grad()
    def detections(self, model: RetinaNet) -> list[dict[str, Tensor]]:
        """Of the model's present thresholds."""
        outputs = {"cls_logits": self.logits, "bbox_regression": self.deltas}
        return model.postprocess_detections(outputs, [self.anchors] * len(self.sizes), self.sizes)


@torch.no_grad()
def dense(model: RetinaNet, images: list[Tensor]) -> Dense:
    with network_frame(model):
        batch, _ = model.transform(images)
    features = list(model.backbone(batch.tensors).values())
    outputs = model.head(features)
    anchors = model.anchor_generator(batch, features)[0]
    counts = [9 * f.shape[-2] * f.shape[-1] for f in features]
    logits, deltas = (outputs[k].split(counts, 1) for k in ("cls_logits", "bbox_regression"))
    return Dense(features, logits, deltas, anchors.split(counts), batch.image_sizes)


# -- the head alone, with mmdetection's preset ---------------------------------------------------


@pytest.fixture(scope="module")
def head(shared: Path) -> Tensors:
    return golden(shared / "golden/head/retina_head.npz")


@pytest.fixture(scope="module")
def small() -> RetinaNet:
    return RetinaNet(TINY, 3, preset="mmdetection", fpn_channels=4, head_depth=1)


def truth(head: Tensors) -> list[dict[str, Tensor]]:
    return [{"boxes": head[f"in.gt.{i}"], "labels": head[f"in.label.{i}"] + 1} for i in (0, 1)]


def test_targets_are_mmdetections(head: Tensors, small: RetinaNet) -> None:
    anchors, targets = anchors_of(small), truth(head)
    matched = [match_anchors(small.proposal_matcher, target, anchors) for target in targets]
    for i, (target, match) in enumerate(zip(targets, matched, strict=True)):
        labels = torch.cat([head[f"target.labels.{k}"][i] for k in LEVELS])
        weights = torch.cat([head[f"target.label_weights.{k}"][i] for k in LEVELS])
        deltas = torch.cat([head[f"target.deltas.{k}"][i] for k in LEVELS])
        positive = match >= 0
        assert torch.equal(match == IGNORED, weights == 0)
        assert torch.equal(match == NEGATIVE, (weights == 1) & (labels == 3))
        assert torch.equal(target["labels"][match[positive]] - 1, labels[positive])
        boxes = target["boxes"][match[positive]]
        torch.testing.assert_close(
            small.box_coder.encode_single(boxes, anchors[positive]), deltas[positive]
        )
    assert sum(max(1, int((m >= 0).sum())) for m in matched) == head["target.num_pos"]


def test_losses_and_gradients_are_mmdetections(head: Tensors, small: RetinaNet) -> None:
    maps = {
        name: [head[f"in.{name}.{k}"].clone().requires_grad_() for k in LEVELS]
        for name in ("cls", "reg")
    }
    outputs = {
        "cls_logits": torch.cat([flat(m, 3) for m in maps["cls"]], dim=1),
        "bbox_regression": torch.cat([flat(m, 4) for m in maps["reg"]], dim=1),
    }
    losses = small.compute_loss(truth(head), outputs, [anchors_of(small)] * 2)
    expected = [sum(head[f"loss_{part}.{k}"] for k in LEVELS) for part in ("cls", "bbox")]
    torch.testing.assert_close(list(losses.values()), expected)
    sum(losses.values()).backward()
    for name, of_levels in maps.items():
        for k, level in enumerate(of_levels):
            torch.testing.assert_close(level.grad, head[f"grad.{name}.{k}"], rtol=1e-5, atol=1e-6)


def test_detections_are_mmdetections(head: Tensors, small: RetinaNet) -> None:
    logits = [flat(head[f"in.cls.{k}"], 3) for k in LEVELS]
    deltas = [flat(head[f"in.reg.{k}"], 4) for k in LEVELS]
    anchors = anchors_of(small).split([level.shape[1] for level in logits])
    between = Dense([], logits, deltas, list(anchors), [(64, 96), (60, 80)])
    # These were recorded with mmdetection 2.20, which kept empty boxes; 3.3 drops them.
    kept = copy.copy(small)
    kept.preset = dataclasses.replace(small.preset, drop_empty=False)
    found, dropped = between.detections(kept), between.detections(small)
    for i, (with_empty, without) in enumerate(zip(found, dropped, strict=True)):
        boxes, scores, labels = (
            *head[f"det_boxes.{i}"].split([4, 1], 1),
            head[f"det_labels.{i}"] + 1,
        )
        full = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        assert len(with_empty["boxes"]) == len(without["boxes"]) == 100
        assert matches(with_empty, boxes, scores[:, 0], labels) == 100
        assert matches(without, boxes[full], scores[full, 0], labels[full]) == full.sum() < 100
        assert (without["boxes"][:, 2:] > without["boxes"][:, :2]).all()


# -- mmdetection's RetinaNet-R18 of HEAD's fixtures ----------------------------------------------


@pytest.fixture(scope="module")
def mmdetection_r18(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> RetinaNet:
    weights = head_weights(shared, "retinanet_r18_fpn")
    file = file_of(tmp_path_factory.mktemp("head"), "mmdetection", weights)
    model = RetinaNet("resnet18", 80, weights=file)
    normalised(model, head_batch(), CONTENTS)
    return model.eval()


def test_mmdetections_r18_whole(shared: Path, mmdetection_r18: RetinaNet) -> None:
    model, expected = mmdetection_r18, golden(shared / "golden/head/e2e_retinanet_r18.npz")
    between = dense(model, [])
    for k, features in enumerate(between.features):
        close = {"rtol": 1e-4, "atol": 5e-5}  # processors differ in rounding
        logits, deltas = (
            as_maps(o[k], *features.shape[-2:]) for o in (between.logits, between.deltas)
        )
        torch.testing.assert_close(features[:, ::16], expected[f"neck.{k}.every16"], **close)
        torch.testing.assert_close(logits[:, ::37], expected[f"cls.{k}.every37"], **close)
        torch.testing.assert_close(deltas[:, ::3], expected[f"reg.{k}"], **close)
    for i, found in enumerate(model([torch.zeros(3, *size) for size in CONTENTS])):
        boxes, labels = expected[f"det_boxes.{i}"], expected[f"det_labels.{i}"] + 1
        assert len(found["boxes"]) == 100
        assert matches(found, boxes[:, :4], boxes[:, 4], labels) >= 99


def test_mmdetections_r18_losses(shared: Path, mmdetection_r18: RetinaNet) -> None:
    expected = golden(shared / "golden/head/e2e_retinanet_r18.npz")
    mmdetection_r18.train()
    losses = mmdetection_r18([torch.zeros(3, *size) for size in CONTENTS], objects())
    mmdetection_r18.eval()
    sums = [sum(expected[f"train.loss_{part}.{k}"] for k in LEVELS) for part in ("cls", "bbox")]
    torch.testing.assert_close([v.detach() for v in losses.values()], sums, rtol=1e-4, atol=0)


# -- whole models of the checkpoints' fixtures ---------------------------------------------------


@pytest.mark.parametrize(
    ("library", "short", "name", "order"),
    [
        ("detectron2", "d2", "retinanet_R18", TO_SIZE_MAJOR),
        ("mmdetection", "mmdet", "retinanet_r18_fpn", list(range(9))),
    ],
)
def test_r18_is_the_librarys(
    shared: Path, tmp_path: Path, library: str, short: str, name: str, order: list[int]
) -> None:
    file = file_of(tmp_path, library, checkpoint_weights(shared, short, name))
    model = RetinaNet("resnet18", 80, weights=f"{library}:{file}").eval()
    expected = golden(shared / f"golden/checkpoints/{short}_{name}.npz")
    images = checkpoint_images()
    between = dense(model, images)
    for k, features in enumerate(between.features):
        size = features.shape[-2:]
        close = {"rtol": 1e-4, "atol": 2e-5}
        torch.testing.assert_close(features.flatten()[::143], expected[f"sample/p{k + 3}"], **close)
        logits = as_maps(between.logits[k], *size, order).flatten()[::13]
        torch.testing.assert_close(logits, expected[f"sample/logits/{k}"], **close)
        deltas = as_maps(between.deltas[k], *size, order)
        torch.testing.assert_close(deltas, expected[f"deltas/{k}"], **close)
        anchors = between.anchors[k].unflatten(0, (-1, 9))[:, order].flatten(0, 1)
        assert torch.equal(anchors, expected[f"anchors/{k}"])
    with torch.no_grad(), network_frame(model):
        found = {"default": model(images)}
    model.score_thresh, model.detections_per_img = 0.0, 3000
    found["loose"] = between.detections(model)
    for kind, of_images in found.items():
        for i, of_image in enumerate(of_images):
            boxes, scores, labels = (
                expected[f"det/{kind}/{i}/{part}"] for part in ("boxes", "scores", "labels")
            )
            # Of thousands, a few overlap by the threshold but for the rounding of a processor.
            flipped = 3 if kind == "loose" else 0
            assert abs(len(of_image["boxes"]) - len(boxes)) <= flipped
            assert matches(of_image, boxes, scores, labels + 1) >= len(boxes) - flipped
