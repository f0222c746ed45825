"""The losses against loops over anchors, classes and sides that follow the paper's equations."""

import math

import pytest
import torch

from limbeck.models.detection.parts.atss import ATSSMatcher
from limbeck.models.detection.parts.distributions import BINS, DistributionCoder
from limbeck.models.detection.parts.generalized_focal import (
    distribution_focal_loss,
    losses_of_batch,
    quality_focal_loss,
)
from limbeck.models.detection.parts.matcher import IGNORED
from tests.models.detection.parts.test_atss import COUNTS, anchors_of, boxes_of, plain_iou

CLASSES = 3


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def plain_quality(logit, quality):
    share = sigmoid(logit)
    entropy = -quality * math.log(share) - (1 - quality) * math.log(1 - share)
    return abs(quality - share) ** 2 * entropy


def plain_distribution(logits, distance):
    total = sum(math.exp(x) for x in logits)
    shares = [math.exp(x) / total for x in logits]
    y = min(max(distance, 0.0), BINS - 1 - 0.1)
    left = int(y)
    return -((left + 1 - y) * math.log(shares[left]) + (y - left) * math.log(shares[left + 1]))


def plain_box(logits, anchor):
    stride = (anchor[2] - anchor[0]) / 8
    x, y = (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2
    distances = []
    for side in range(4):
        own = [math.exp(v) for v in logits[side * BINS : (side + 1) * BINS]]
        distances.append(stride * sum(i * v for i, v in enumerate(own)) / sum(own))
    return [x - distances[0], y - distances[1], x + distances[2], y + distances[3]]


def plain_giou(box, other):
    area = lambda b: (b[2] - b[0]) * (b[3] - b[1])  # noqa: E731
    hull = [*map(min, box[:2], other[:2]), *map(max, box[2:], other[2:])]
    overlap = plain_iou(box, other)
    union = (area(box) + area(other)) / (1 + overlap)
    return overlap - (area(hull) - union) / area(hull)


def plain_losses(targets, logits, distributions, anchors, matched):
    boxes, labels = (
        [item for target in targets for item in target[key].tolist()] for key in ("boxes", "labels")
    )
    quality = giou = sides = weights = 0.0
    normaliser = 0
    for image, row in enumerate(matched.tolist()):
        normaliser += max(1, sum(item >= 0 for item in row))
        for anchor, item in enumerate(row):
            own = logits[image][anchor].tolist()
            wanted = [0.0] * CLASSES
            if item >= 0:
                box, label = boxes[item], labels[item]
                numbers = distributions[image][anchor].tolist()
                found = plain_box(numbers, anchors[anchor].tolist())
                wanted[label - 1] = plain_iou(found, box)
                weight = max(map(sigmoid, own))
                weights += weight
                giou += weight * (1 - plain_giou(found, box))
                stride = ((anchors[anchor][2] - anchors[anchor][0]) / 8).item()
                x, y = ((anchors[anchor][i] + anchors[anchor][i + 2]).item() / 2 for i in (0, 1))
                distances = [x - box[0], y - box[1], box[2] - x, box[3] - y]
                for side, distance in enumerate(distances):
                    bins = numbers[side * BINS : (side + 1) * BINS]
                    sides += weight * plain_distribution(bins, distance / stride) / 4
            if item != IGNORED:
                quality += sum(map(plain_quality, own, wanted))
    total = max(1.0, weights)
    return [quality / normaliser, 2 * giou / total, 0.25 * sides / total]


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    anchors = anchors_of()
    targets = [
        {"boxes": boxes_of(n, generator), "labels": torch.randint(1, 4, (n,), generator=generator)}
        for n in (4, 0, 2)
    ]
    outputs = {
        "cls_logits": torch.randn(3, len(anchors), CLASSES, generator=generator),
        "bbox_regression": 2 * torch.randn(3, len(anchors), 4 * BINS, generator=generator),
    }
    return targets, {n: v.requires_grad_() for n, v in outputs.items()}, anchors


def test_losses_are_those_of_loops_over_all_anchors(batch):
    targets, outputs, anchors = batch
    matched = ATSSMatcher()(targets, anchors, COUNTS)
    matched[1, :20] = IGNORED
    losses = losses_of_batch(targets, outputs, anchors, matched, DistributionCoder())
    assert list(losses) == ["classification", "bbox_regression", "distribution"]
    found = torch.stack(list(losses.values()))
    expected = plain_losses(targets, *outputs.values(), anchors, matched)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_the_score_of_an_anchor_gets_no_gradient_from_its_box(batch):
    targets, outputs, anchors = batch
    matched = ATSSMatcher()(targets, anchors, COUNTS)
    losses = losses_of_batch(targets, outputs, anchors, matched, DistributionCoder())
    boxes = losses["bbox_regression"] + losses["distribution"]
    logits, distributions = outputs.values()
    gradient = torch.autograd.grad(boxes, [logits, distributions], allow_unused=True)
    assert gradient[0] is None
    assert gradient[1].flatten(2).any(dim=2).equal(matched >= 0)


def test_a_batch_without_objects_is_learnt_as_background(batch):
    _, outputs, anchors = batch
    targets = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}] * 3
    matched = ATSSMatcher()(targets, anchors, COUNTS)
    losses = losses_of_batch(targets, outputs, anchors, matched, DistributionCoder())
    assert losses["bbox_regression"] == losses["distribution"] == 0
    sum(losses.values()).backward()
    assert not outputs["bbox_regression"].grad.any()
    assert outputs["cls_logits"].grad.gt(0).all()


def test_a_perfect_score_costs_nothing_and_extreme_logits_are_finite():
    logits = torch.tensor([200.0, -200.0, 0.0], requires_grad=True)
    loss = quality_focal_loss(logits, torch.tensor([1.0, 0.0, 0.5]))
    torch.testing.assert_close(loss, torch.zeros(3))
    worst = quality_focal_loss(-logits, torch.tensor([1.0, 0.0, 0.5]))
    assert worst.isfinite().all()
    assert worst[0] > 100


def test_distances_beyond_the_last_bin_are_clipped():
    logits = torch.randn(BINS)
    far, last = (distribution_focal_loss(logits, torch.tensor(d)) for d in (40.0, 15.9))
    torch.testing.assert_close(far, last)
    near, first = (distribution_focal_loss(logits, torch.tensor(d)) for d in (-3.0, 0.0))
    torch.testing.assert_close(near, first)
