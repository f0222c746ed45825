"""YOLOv2: its layers, its detections, and that it imitates."""

import math

import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from limbeck import Distillation, landmarks
from limbeck.methods import FineGrainedImitation
from limbeck.models import YOLOv2, load_student, save_student
from limbeck.models.detection.grid.yolov2 import VOC_ANCHORS, darknet_reorganised
from limbeck.taps import Taps
from limbeck.training.compilation import channels_last, compile_trunks
from tests.batches import nothing
from tests.models.detection.grid.small_yolov2 import (
    CLASSES,
    SHAPES,
    SIZE,
    objects,
    plain_iou,
    sigmoid,
    some_objects,
    tiny,
)


@pytest.mark.parametrize("label", [0, CLASSES + 1])
def test_refuses_labels_of_no_class(label):
    """Of 0 nothing would be learnt, silently; the other one would end a GPU's process."""
    targets = [objects((1, 1.0, 1.0, 9.0, 9.0)), objects((label, 1.0, 1.0, 9.0, 9.0))]
    with pytest.raises(ValueError, match=f"the label {label}; expected 1 to {CLASSES}"):
        tiny()(list(torch.rand(2, 3, *SIZE)), targets)


def test_seen_counts_images_of_training_and_is_kept(tmp_path):
    model = tiny()
    model(list(torch.rand(3, 3, *SIZE)), [nothing()] * 3)
    model.eval()(list(torch.rand(2, 3, *SIZE)))
    save_student(model, tmp_path)
    assert load_student(tmp_path).seen.item() == model.seen.item() == 3


# -- layers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "floats"), [(1.0, 50_578_686), (0.25, 3_174_870), (0.15, 1_154_053)]
)
def test_published_sizes(width, floats):
    """192.9, 12.1 and 4.4 MiB: 190, 12 and 4.4 MB in Fine-grained Feature Imitation's table."""
    with torch.device("meta"):
        model = YOLOv2(width, 1)
    counted = [v for n, v in model.state_dict().items() if v.is_floating_point()]
    assert sum(value.numel() for value in counted) == floats


def test_landmarks():
    model = tiny().eval()
    known = landmarks(model)
    strides = {"C2": 4, "C3": 8, "C4": 16, "C5": 32, "C5.pre": 32}
    assert {"maps", "anchors", "frame"} | strides.keys() <= known.keys()
    with Taps(model, known) as seen:
        model([torch.rand(3, *SIZE)])
    for name, stride in strides.items():
        assert SIZE[0] // stride == seen[name].shape[-2], name
    torch.testing.assert_close(nn.functional.leaky_relu(seen["C5.pre"], 0.1), seen["C5"])
    (level,) = seen["maps"]
    assert level.shape[1:] == (51, 3, 4)  # what the last convolution sees
    assert [len(a) for a in seen["anchors"][0]] == [3 * 4 * len(SHAPES)]


def test_anchors_lie_in_the_middle_of_their_cells():
    anchors = tiny().anchor_generator.on((3, 4), SIZE).view(3, 4, 3, 4)
    assert anchors[1, 2, 0].tolist() == [80 - 10, 48 - 15, 80 + 10, 48 + 15]
    assert torch.tensor(VOC_ANCHORS).div(32)[0].tolist() == pytest.approx([1.3221, 1.73145])


def reorganised(view, channels, height, width):
    """Darknet's definition over the memory of (C, H, W), read as (C / 4, 2 H, 2 W)."""
    view = view.reshape(channels // 4, 2 * height, 2 * width)
    out = torch.zeros(channels, height, width)
    for k in range(channels):
        for j in range(height):
            for i in range(width):
                offset = k // (channels // 4)
                row, column = 2 * j + offset // 2, 2 * i + offset % 2
                out[k, j, i] = view[k % (channels // 4), row, column]
    return out.reshape(4 * channels, height // 2, width // 2)


@pytest.mark.parametrize("shape", [(4, 2, 2), (8, 4, 6), (12, 6, 4)])
def test_darknets_reorganisation(shape):
    feature = torch.rand(2, *shape)
    expected = torch.stack([reorganised(image, *shape) for image in feature])
    assert torch.equal(darknet_reorganised(feature), expected)
    last = feature.to(memory_format=torch.channels_last)
    assert torch.equal(darknet_reorganised(last), expected)
    assert not torch.equal(expected, nn.functional.pixel_unshuffle(feature, 2))


def test_darknets_passthrough_wants_quarters():
    with pytest.raises(ValueError, match=r"'darknet' at width=0.15: 10 channels .* multiple of 4"):
        tiny(0.15, passthrough="darknet")
    with pytest.raises(ValueError, match="expected one of darknet, space_to_depth"):
        tiny(passthrough="reorg")


@pytest.mark.parametrize("passthrough", ["darknet", "space_to_depth"])
def test_what_is_passed_on_comes_first(passthrough):
    model = tiny(0.0625, passthrough=passthrough).eval()
    seen = {}
    backbone = model.backbone
    for name in ("passed", "added", "fused"):
        getattr(backbone, name).register_forward_hook(
            lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)})
        )
    backbone(torch.rand(1, 3, *SIZE))
    fine, coarse = seen["passed"][1], seen["added"][1]
    ways = {"darknet": darknet_reorganised, "space_to_depth": nn.PixelUnshuffle(2)}
    way = ways[passthrough]
    assert torch.equal(seen["fused"][0], torch.cat([way(fine), coarse], dim=1))


# -- detections ------------------------------------------------------------------------------------


def test_boxes_and_scores():
    """One anchor by hand: the second shape in row 1, column 2."""
    model = tiny().eval()
    predicted = torch.zeros(1, len(SHAPES) * 9, 3, 4)
    predicted[0, 9:18, 1, 2] = torch.tensor([1.0, -1.0, 0.5, 99.0, 2.0, 0.0, 3.0, 0.0, 0.0])
    anchors = model.anchor_generator.on((3, 4), SIZE)
    boxes, scores = model.decode(model.split(predicted), anchors, SIZE)
    place = (1 * 4 + 2) * 3 + 1
    x, y = 32 * (2 + sigmoid(1.0)), 32 * (1 + sigmoid(-1.0))
    width, height = 60 * math.exp(0.5), 40 * 1000 / 16
    half = torch.tensor([width, height]) / 2
    centre = torch.tensor([x, y])
    torch.testing.assert_close(boxes[0, place], torch.cat([centre - half, centre + half]))
    share = math.exp(3) / (3 + math.exp(3))
    assert scores[0, place, 1].item() == pytest.approx(sigmoid(2.0) * share)
    torch.testing.assert_close(boxes[0, place - 1], anchors[place - 1])


def test_every_class_above_the_threshold_is_a_candidate():
    model = tiny(score_threshold=0.25)
    boxes = torch.arange(8.0).view(2, 4)
    scores = torch.tensor([[0.3, 0.1, 0.5, 0.2], [0.25, 0.9, 0.0, 0.26]])
    found = model.candidates(boxes, scores)
    assert found["scores"].tolist() == pytest.approx([0.9, 0.5, 0.3, 0.26])
    assert found["labels"].tolist() == [2, 3, 1, 4]
    assert torch.equal(found["boxes"], boxes[[1, 0, 0, 1]])


def test_detections():
    """NMS within a class, so many at most, in the pixels of the image that was given."""
    model = tiny(detections_per_image=5).eval()
    nn.init.normal_(model.head.weight, std=0.5)
    nn.init.normal_(model.head.bias)
    (found,) = model([torch.rand(3, 192, 64)])
    assert len(found["scores"]) == 5
    assert found["scores"].diff().le(0).all()
    assert found["boxes"][:, 2].max() <= 64
    assert found["boxes"][:, 3].max() <= 192
    for label in found["labels"].unique():
        boxes = found["boxes"][found["labels"] == label]
        assert box_iou(boxes, boxes).fill_diagonal_(0).max() <= 0.45


@pytest.mark.parametrize("passthrough", ["darknet", "space_to_depth"])
def test_a_student_is_kept_and_its_numerics_are_taken_over(passthrough, tmp_path):
    model = tiny(0.0625, passthrough=passthrough, std=(0.5, 0.5, 0.5)).eval()
    save_student(model, tmp_path)
    images = [torch.rand(3, *SIZE)]
    again = YOLOv2(0.0625, CLASSES, weights=tmp_path).eval()
    assert again.build == model.build
    for one in (load_student(tmp_path), again):
        assert torch.equal(one(images)[0]["scores"], model(images)[0]["scores"])
    other = "darknet" if passthrough == "space_to_depth" else "space_to_depth"
    with pytest.raises(ValueError, match=f"passthrough is {passthrough} in the weights"):
        YOLOv2(0.0625, CLASSES, weights=tmp_path, passthrough=other)
    assert model.without_limbeck() is None


@pytest.mark.parametrize("norm", ["frozen", "affine"])
def test_norms_that_do_not_move(norm):
    model = tiny(norm=norm).train()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


# -- distillation ----------------------------------------------------------------------------------


def pair():
    """A wide teacher and a narrow student, whose batch statistics are fixed."""
    torch.manual_seed(1)
    teacher, student = tiny(0.1), tiny(0.05, norm="affine")
    method = FineGrainedImitation(activation="leaky_relu")
    return Distillation(student, teacher, {"it": method}).train()


def batch():
    generator = torch.Generator().manual_seed(2)
    return list(torch.rand(2, 3, *SIZE, generator=generator)), some_objects()


def step(distillation):
    """Losses and gradients of a step, in which as many images were seen as before."""
    distillation.student.seen.zero_()
    distillation.zero_grad()
    losses = distillation(*batch())
    losses.total.backward()
    named = distillation.named_trainable_parameters()
    return dict(losses.raw), {n: p.grad.clone() for n, p in named if p.grad is not None}


def test_imitation():
    distillation = pair()
    optimizer = torch.optim.SGD(distillation.trainable_parameters(), 0.1)
    wiring = distillation.check(*batch(), optimizer)
    assert {connection.method for connection in wiring.connections} == {"it"}
    losses, gradients = step(distillation)
    assert losses.keys() == {
        "it/imitation",
        *(f"student/{n}" for n in ("coordinates", "confidence", "classification", "prior")),
    }
    assert all(loss.isfinite() for loss in losses.values())
    own = {f"student.{name}" for name, _ in distillation.student.named_parameters()}
    assert own <= gradients.keys()
    assert all(gradients[name].abs().sum() > 0 for name in own)
    assert all(p.grad is None for p in distillation.teacher.parameters())


def test_masks_are_those_of_the_anchors():
    """Psi times the best IoU of each object, cell by cell."""
    distillation = pair()
    (masks,) = distillation.picture(*batch(), "it").columns.values()
    for mask, target in zip(masks, some_objects(), strict=True):
        centres = [(16 + 32 * i, 16 + 32 * j) for j in range(3) for i in range(4)]
        plain = torch.zeros(3, 4)
        for x1, y1, x2, y2 in target["boxes"].tolist():
            box = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
            ious = [max(plain_iou((*c, *shape), box) for shape in SHAPES) for c in centres]
            plain += torch.tensor([iou > 0.5 * max(ious) for iou in ious]).view(3, 4)
        assert torch.equal(mask[16::32, 16::32] > 0, plain > 0)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["channels_last", "compiled"])
def test_layouts_and_compilation_compute_the_same(way, monkeypatch):
    distillation = pair()
    losses, gradients = step(distillation)
    if way == "channels_last":
        channels_last(distillation)
    else:
        torch.compiler.reset()
        compiler = torch.compile
        monkeypatch.setattr(torch, "compile", lambda run: compiler(run, backend="eager"))
        compile_trunks(distillation)
    for _ in range(2):
        found, slopes = step(distillation)
        for name, loss in losses.items():
            assert found[name].item() == pytest.approx(loss.item(), rel=1e-4, abs=1e-6), name
        for name, gradient in gradients.items():
            near = 1e-4 * gradient.abs().max().item()
            assert torch.allclose(slopes[name], gradient, rtol=1e-3, atol=near), name
    torch.compiler.reset()
