"""The region loss against a plain loop written from darknet's rules."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.models import YOLOv2
from tests.batches import nothing
from tests.models.detection.grid.small_yolov2 import (
    CLASSES,
    SHAPES,
    SIZE,
    plain_iou,
    sigmoid,
    some_objects,
    tiny,
)
from tests.observation import Allocated


def predictions(images=2, seed=0, scale=1.0):
    """(B, channels, 3, 4), float64, which want gradients."""
    generator = torch.Generator().manual_seed(seed)
    channels = len(SHAPES) * (5 + CLASSES)
    shape = (images, channels, SIZE[0] // 32, SIZE[1] // 32)
    return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()


def region_loss(predicted, targets, warm_up):
    """Losses by name, and the gradient of their sum: darknet's, which knows no losses.

    An object's anchor has what it is given there overwritten, so of two objects the last counts.
    """
    images, _, rows, columns = predicted.shape
    values = predicted.detach().view(images, len(SHAPES), 5 + CLASSES, rows, columns)
    loss = dict.fromkeys(("coordinates", "confidence", "classification", "prior"), 0.0)
    slope = torch.zeros_like(values)
    for b, target in enumerate(targets):
        truths = [
            ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
            for x1, y1, x2, y2 in target["boxes"].tolist()
        ]
        given = {}
        for truth, label in zip(truths, target["labels"].tolist(), strict=True):
            i = min(int(truth[0] / 32), columns - 1)
            j = min(int(truth[1] / 32), rows - 1)
            fits = [plain_iou((0, 0, *truth[2:]), (0, 0, *shape)) for shape in SHAPES]
            given[fits.index(max(fits)), j, i] = (truth, label)
        for n, (width, height) in enumerate(SHAPES):
            for j in range(rows):
                for i in range(columns):
                    x, y, w, h, o, *scores = values[b, n, :, j, i].tolist()
                    x, y, o = sigmoid(x), sigmoid(y), sigmoid(o)
                    box = (32 * (i + x), 32 * (j + y), width * math.exp(w), height * math.exp(h))
                    out = slope[b, n, :, j, i]
                    if (n, j, i) not in given:
                        best = max((plain_iou(box, truth) for truth in truths), default=0.0)
                        if best <= 0.6:
                            loss["confidence"] += o**2 / 2
                            out[4] = o * o * (1 - o)
                        expected, scale, name = (0.5, 0.5, 0.0, 0.0), 0.01 * warm_up, "prior"
                    else:
                        truth, label = given[n, j, i]
                        iou = plain_iou(box, truth)
                        loss["confidence"] += 5 * (iou - o) ** 2 / 2
                        out[4] = 5 * (o - iou) * o * (1 - o)
                        total = sum(math.exp(s) for s in scores)
                        loss["classification"] -= math.log(math.exp(scores[label - 1]) / total)
                        for c, s in enumerate(scores):
                            out[5 + c] = math.exp(s) / total - (c == label - 1)
                        expected = (
                            truth[0] / 32 - i,
                            truth[1] / 32 - j,
                            math.log(truth[2] / width),
                            math.log(truth[3] / height),
                        )
                        scale = 2 - truth[2] * truth[3] / (SIZE[0] * SIZE[1])
                        name = "coordinates"
                    for k, (found, wanted) in enumerate(zip((x, y, w, h), expected, strict=True)):
                        loss[name] += scale * (found - wanted) ** 2 / 2
                        inner = found * (1 - found) if k < 2 else 1.0
                        out[k] = scale * (found - wanted) * inner
    mean = {name: value / images for name, value in loss.items()}
    return mean, slope.view_as(predicted) / images


def computed(model, predicted, targets):
    anchors = model.anchor_generator.on((SIZE[0] // 32, SIZE[1] // 32), SIZE).double()
    doubled = [{"boxes": t["boxes"].double(), "labels": t["labels"]} for t in targets]
    return model.compute_loss(doubled, model.split(predicted), anchors, SIZE)


@pytest.mark.parametrize("seen", [0, 12_799, 12_800])
@pytest.mark.parametrize("scale", [1.0, 0.05])
@pytest.mark.parametrize("case", ["objects", "one image without", "none"])
def test_losses_and_gradients_are_darknets(seen, scale, case):
    model = tiny()
    model.seen.fill_(seen)
    first, second = some_objects()
    targets = {
        "objects": [first, second],
        "one image without": [nothing(), second],
        "none": [nothing()] * 2,
    }[case]
    predicted = predictions(scale=scale)
    losses = computed(model, predicted, targets)
    expected, gradient = region_loss(predicted, targets, warm_up=seen < 12_800)
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected)
    sum(losses.values()).backward()
    torch.testing.assert_close(predicted.grad, gradient)
    assert model.seen.item() == seen + 2


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 9))
def test_any_objects(seed, count):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([120.0, 88.0])
    sides = 4 + torch.rand(count, 2, generator=generator) * 90
    labels = torch.randint(1, CLASSES + 1, (count,), generator=generator)
    target = {"boxes": torch.cat([corners, corners + sides], dim=1), "labels": labels}
    predicted = predictions(1, seed)
    expected, gradient = region_loss(predicted, [target], warm_up=True)
    losses = computed(tiny(), predicted, [target])
    assert {n: loss.item() for n, loss in losses.items()} == pytest.approx(expected, rel=1e-5)
    sum(losses.values()).backward()
    torch.testing.assert_close(predicted.grad, gradient, rtol=1e-5, atol=1e-7)


def test_a_crowd_is_compared_in_parts():
    """All its objects at once with all anchors are a gigabyte at a batch's size."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(300, 2, generator=generator) * torch.tensor([90.0, 60.0])
    boxes = torch.cat([corners, corners + 30 * torch.rand(300, 2, generator=generator) + 5], dim=1)
    target = {"boxes": boxes, "labels": torch.arange(300) % CLASSES + 1}
    model, predicted = tiny(), predictions(1, scale=0.1)
    with Allocated() as new:
        losses = computed(model, predicted, [target])
    assert max(new.sizes) < 4 * 300 * len(SHAPES) * 12
    expected, gradient = region_loss(predicted, [target], warm_up=True)
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected)
    sum(losses.values()).backward()
    torch.testing.assert_close(predicted.grad, gradient)


def test_an_anchor_near_an_object_is_no_background():
    """Its neighbour's box covers the object as well."""
    shapes = [(40.0, 40.0), (38.0, 38.0)]
    model = YOLOv2(0.05, 1, image_size=SIZE, anchor_shapes=shapes)
    target = {"boxes": torch.tensor([[28.0, 28.0, 68.0, 68.0]]), "labels": torch.tensor([1])}
    predicted = torch.zeros(1, 12, 3, 4, requires_grad=True)
    anchors = model.anchor_generator.on((3, 4), SIZE)
    losses = model.compute_loss([target], model.split(predicted), anchors, SIZE)
    losses["confidence"].backward()
    objects = predicted.grad.view(2, 6, 3, 4)[:, 4]
    assert objects[1, 1, 1] == 0  # the second shape in the object's cell
    assert objects[1, 0, 0] > 0
    assert objects[0, 1, 1] < 0  # the anchor of the object, which is to learn its IoU


def test_one_class_has_a_loss_of_zero_that_is_connected():
    model = YOLOv2(0.05, 1, image_size=SIZE)
    target = {"boxes": torch.tensor([[28.0, 28.0, 68.0, 68.0]]), "labels": torch.tensor([1])}
    losses = model([torch.rand(3, *SIZE)], [target])
    assert losses["classification"].item() == 0
    losses["classification"].backward()
    assert model.head.weight.grad is not None


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_losses_are_finite_in_half_precision_whatever_is_predicted(half):
    model = tiny()
    model.head.bias.data.fill_(60.0)  # exp(60)**2 is beyond float32
    with torch.autocast("cpu", half):
        losses = model(list(torch.rand(2, 3, *SIZE)), some_objects())
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_an_image_without_objects_trains():
    model = tiny()
    losses = model(list(torch.rand(2, 3, *SIZE)), [nothing()] * 2)
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert model.head.bias.grad.abs().sum() > 0


def test_the_loss_waits_for_no_device():
    """On meta there are no values to look at."""
    model = tiny().to("meta")
    targets = [{n: v.to("meta") for n, v in target.items()} for target in some_objects()]
    predicted = predictions().float().to("meta")
    anchors = model.anchor_generator.on((3, 4), SIZE, torch.device("meta"))
    losses = model.compute_loss(targets, model.split(predicted), anchors, SIZE)
    assert all(loss.is_meta and loss.requires_grad for loss in losses.values())


def test_images_of_all_processes_are_seen(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    model = tiny()
    computed(model, predictions(), some_objects())
    assert model.seen.item() == 6
