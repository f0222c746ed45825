"""ShuffleDet: what it gives, what it refuses, and that it learns."""

from functools import partial

import pytest
import torch
from torch import nn

from limbeck import Distillation
from limbeck.frame import fixed_size
from limbeck.landmarks import landmarks
from limbeck.methods import FineGrainedImitation
from limbeck.methods.fgfi import imitation_masks
from limbeck.models import ShuffleDet, load_student, save_student
from limbeck.models.detection.grid.shuffledet import (
    SpreadAnchors,
)
from limbeck.training.compilation import channels_last, compile_trunks
from tests.batches import nothing

SIZE = (64, 128)
SHAPES = ((16.0, 16.0), (40.0, 24.0), (12.0, 40.0))
BOXES = torch.tensor([[4.0, 6.0, 40.0, 50.0], [60.0, 8.0, 120.0, 36.0]])


def tiny(width=0.15, **arguments):
    return ShuffleDet(width, 3, **{"image_size": SIZE, "anchor_shapes": SHAPES} | arguments)


def batch(count=2):
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, *SIZE, generator=generator) for _ in range(count)]
    return images, [{"boxes": BOXES + i, "labels": torch.tensor([1, 3])} for i in range(count)]


def test_places_are_found():
    model = tiny()
    found = landmarks(model)
    assert {"C2", "C3", "C4", "C4.pre", "maps", "anchors", "frame"} <= found.keys()
    assert found["C4"].path == "backbone.features.added3"
    assert found["C4.pre"].path == "backbone.features.added3.1.relu"
    assert fixed_size(model) == SIZE
    assert model.strides == (16,)


def test_a_map_of_cells_with_anchors_spread_over_the_image():
    anchors = SpreadAnchors(SHAPES).on((4, 8), SIZE).view(4, 8, 3, 4)
    centres = (anchors[..., :2] + anchors[..., 2:]) / 2
    assert torch.allclose(centres[1, 2, 0], torch.tensor([3 * 128 / 9, 2 * 64 / 5]))
    assert torch.allclose((anchors[..., 2:] - anchors[..., :2])[3, 7], torch.tensor(SHAPES))


@pytest.mark.parametrize("classes", [1, 3])
def test_losses_are_finite_and_have_gradients(classes):
    model = tiny()
    if classes == 1:
        model = ShuffleDet(0.15, 1, image_size=SIZE, anchor_shapes=SHAPES)
    images, targets = batch()
    targets = [{**t, "labels": t["labels"].clamp(max=classes)} for t in targets]
    losses = model(images, targets)
    assert losses.keys() == {"classification", "confidence", "bbox_regression"}
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
    assert model.head[1].weight.grad.abs().sum() > 0


def test_confident_logits_keep_the_class_loss_finite():
    model = tiny()
    nn.init.constant_(model.head[1].bias[:9], 0.0)
    with torch.no_grad():
        model.head[1].bias[0] = 1e4
    losses = model(*batch())
    losses["classification"].backward()
    assert losses["classification"].isfinite()
    assert model.head[1].bias.grad.isfinite().all()


def test_a_batch_without_objects_teaches_that_there_are_none():
    model = tiny()
    images, _ = batch()
    losses = model(images, [nothing(), nothing()])
    assert losses["classification"].item() == losses["bbox_regression"].item() == 0
    losses["confidence"].backward()
    assert model.head[1].bias.grad[9:12].min() > 0  # confidence goes down
    full = model(*batch())
    mixed = model(images, [batch()[1][0], nothing()])
    assert all(loss.isfinite() for loss in (*full.values(), *mixed.values()))


def test_refuses_boxes_without_area_and_missing_targets():
    model = tiny()
    images, targets = batch()
    with pytest.raises(ValueError, match="targets is None in training mode"):
        model(images)
    targets[1]["boxes"] = torch.tensor([[4.0, 4.0, 4.0, 9.0], [0.0, 0.0, 5.0, 5.0]])
    with pytest.raises(ValueError, match=r"sides \[0.0, 5.0\]"):
        model(images, targets)
    images, targets = batch()
    targets[0]["labels"] = targets[0]["labels"] - 1  # 0 would be taken for the last class
    with pytest.raises(ValueError, match="the label 0; expected 1 to 3, as labels count from 1"):
        model(images, targets)


@pytest.mark.parametrize(
    ("width", "arguments", "message"),
    [
        (0.3333, {}, "multiples of 12"),
        (0.1, {}, "more in the first group than in the stem"),
        (0.15, {"image_size": (60, 128)}, r"multiples of 16, such as \(64, 128\)"),
        (0.15, {"anchor_shapes": []}, "limbeck anchors"),
        (0.15, {"anchor_shapes": [(3.0, -1.0)]}, "in pixels"),
        (0.15, {"anchor_shapes": [(3.0, float("nan"))]}, "in pixels"),
    ],
)
def test_refuses_arguments_that_do_not_suit(width, arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny(width, **arguments)


def test_detections_are_in_the_pixels_of_the_image_that_was_given():
    model = tiny().eval()
    nn.init.normal_(model.head[1].weight, std=0.05)
    image = torch.rand(3, 200, 100)  # of another aspect
    (found,) = model([image])
    assert len(found["boxes"]) > 3
    assert found["boxes"][:, 2::2].max() <= 100
    assert 100 < found["boxes"][:, 3::2].max() <= 200
    assert set(found["labels"].tolist()) <= {1, 2, 3}
    assert (found["scores"].diff() <= 0).all()


def test_no_more_detections_than_stated():
    model = tiny(topk_candidates=20, nms_threshold=1.0, detections_per_class=3).eval()
    nn.init.normal_(model.head[1].weight, std=0.05)
    (found,) = model([torch.rand(3, *SIZE)])
    counts = torch.bincount(found["labels"], minlength=4)
    assert counts.max() == 3
    model = tiny(topk_candidates=20, nms_threshold=1.0).eval()
    assert len(model([torch.rand(3, *SIZE)])[0]["boxes"]) == 20


@pytest.mark.slow
def test_it_learns_an_image():
    torch.manual_seed(0)
    model = tiny(0.25, dropout=0.0)
    images, targets = batch(1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()
    model.train()  # batch statistics of the one image, as it was trained
    prepared, _ = model.transform(images)
    predictions, anchors = model.predict(prepared, model.backbone(prepared.tensors))
    with torch.no_grad():
        boxes, scores = model.decode(predictions, anchors, SIZE)
    found = model.suppress(model.candidates(boxes[0], scores[0]), SIZE)
    two = found["boxes"][:2][found["labels"][:2].argsort()]
    assert found["scores"][:2].min() > 0.7
    assert (two - targets[0]["boxes"]).abs().max() < 4
    assert sorted(found["labels"][:2].tolist()) == [1, 3]


def test_a_student_comes_back_from_its_folder(tmp_path):
    model = tiny().eval()
    save_student(model, tmp_path, classes=["Car", "Pedestrian", "Cyclist"])
    again = load_student(tmp_path)
    images, _ = batch(1)
    assert torch.equal(again(images)[0]["boxes"], model(images)[0]["boxes"])
    other = ShuffleDet(0.15, 3, weights=tmp_path)  # size and anchors as the weights say
    assert other.image_size == SIZE
    assert other.anchor_generator.shapes == SHAPES
    assert torch.equal(other.eval()(images)[0]["scores"], model(images)[0]["scores"])
    with pytest.raises(ValueError, match="anchor_shapes is"):
        ShuffleDet(0.15, 3, weights=tmp_path, anchor_shapes=((1.0, 1.0),) * 3)


def pair(student_width=0.15, **arguments):
    torch.manual_seed(1)
    teacher = tiny(0.25)
    method = FineGrainedImitation(weight=1.0, **arguments)
    return Distillation(tiny(student_width), teacher, {"imitation": method})


def test_imitates_near_the_objects():
    distillation = pair().train()
    images, targets = batch()
    optimizer = torch.optim.SGD(distillation.trainable_parameters(), 0.1)
    distillation.check(images, targets, optimizer)
    losses = distillation(images, targets)
    losses.total.backward()
    assert losses["imitation/imitation"] > 0
    anchors = SpreadAnchors(SHAPES).on((4, 8), SIZE)
    expected = [imitation_masks([anchors], [(4, 8)], t["boxes"])[0] for t in targets]
    shown = distillation.picture(images, targets, "imitation")
    ((_, masks),) = shown.columns.items()
    for mask, plain in zip(masks, expected, strict=True):
        assert torch.equal(mask[::16, ::16].bool(), plain)
    adapter = distillation.methods["imitation"].adapters["maps_0"][0]
    assert (adapter.in_channels, adapter.out_channels) == (120, 192)


@pytest.mark.slow
def test_channels_last_and_compiled_give_the_same_losses(monkeypatch):
    # Inductor takes minutes over fifteen units; what is asked here is that they are one graph.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    images, targets = batch()
    plain, other, compiled = pair(), pair(), pair()
    channels_last(other)
    compile_trunks(compiled)
    for distillation in (plain, other, compiled):
        distillation.train()
        distillation.student.head[0].p = 0.0
    expected = plain(images, targets)
    for distillation in (other, compiled):
        found = distillation(images, targets)
        assert found.total.item() == pytest.approx(expected.total.item(), rel=1e-4)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_losses_in_full_precision_under_autocast(half):
    model = tiny(dropout=0.0)
    images, targets = batch()
    exact = model(images, targets)
    with torch.autocast("cpu", half):
        losses = model(images, targets)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(exact[name].item(), rel=0.05)
