"""What every preset has to keep, and how a detector takes one."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from limbeck import Taps, landmarks
from limbeck.frame import network_frame
from limbeck.models import RetinaNet, load_student, save_student
from limbeck.presets import FASTER_RCNN, PRESETS, RETINANET, differences
from tests.batches import nothing, photographs, targets
from tests.models.comparisons import same_detections
from tests.models.detection.tiny_detectors import NAMES, every_detector, every_preset, tiny
from tests.models.lively_weights import scramble

pytestmark = pytest.mark.usefixtures("narrow_resnets")

# -- every preset ----------------------------------------------------------------------------------


@every_detector
@every_preset
def test_a_training_step_reaches_every_parameter(kind, preset) -> None:
    model = tiny(kind, preset).train()
    losses = model(photographs((128, 160), (150, 128)), [*targets(1), nothing()])
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@every_detector
@every_preset
def test_a_batch_without_objects_has_finite_losses(kind, preset) -> None:
    model = tiny(kind, preset).train()
    losses = model(photographs((128, 128)), [nothing()])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@every_detector
@every_preset
def test_a_student_comes_back(kind, preset, tmp_path: Path) -> None:
    student = scramble(tiny(kind, preset, "resnet18", min_size=64, max_size=80))
    save_student(student, tmp_path)
    again = load_student(tmp_path)
    assert again.preset is PRESETS[kind.__name__][preset]
    assert again.state_dict().keys() == student.state_dict().keys()
    assert same_detections(again, student, photographs((64, 70))) > 10
    card = json.loads((tmp_path / "student.json").read_text())
    assert card["build"]["init_args"]["preset"] == preset
    assert (card["without_limbeck"] is not None) == (preset == "torchvision")


@every_detector
def test_a_student_from_before_there_were_presets_is_torchvisions(kind, tmp_path: Path) -> None:
    student = scramble(tiny(kind, "torchvision", min_size=64, max_size=80))
    save_student(student, tmp_path)
    card = json.loads((tmp_path / "student.json").read_text())
    for name in ("preset", "stride_in_1x1"):
        del card["build"]["init_args"][name]
    if kind is RetinaNet:
        card["build"]["init_args"]["detections_per_image"] = 300
    (tmp_path / "student.json").write_text(json.dumps(card))
    again = load_student(tmp_path)
    assert again.preset is PRESETS[kind.__name__]["torchvision"]
    assert same_detections(again, student, photographs((64, 70))) > 10


@every_detector
@every_preset
def test_a_copy_is_the_same(kind, preset) -> None:
    model = scramble(tiny(kind, preset, min_size=64, max_size=80))
    assert same_detections(copy.deepcopy(model), model, photographs((64, 70))) > 10


@every_detector
@every_preset
def test_landmarks(kind, preset) -> None:
    model = tiny(kind, preset).eval()
    first = 3 if kind is RetinaNet else 2
    names = [f"P{k}" for k in range(first, first + 5)]
    assert {"C2", "C5", "frame", "anchors", *names} <= landmarks(model).keys()
    assert model.strides == tuple(2**k for k in range(first, first + 5))
    with torch.no_grad(), network_frame(model), Taps(model, [*names, "anchors", "frame"]) as seen:
        model(photographs((128, 160)))
    per_cell = 9 if kind is RetinaNet else 3
    for name, stride, anchors in zip(names, model.strides, seen["anchors"][0], strict=True):
        height, width = seen[name].shape[-2:]
        assert (height, width) == (128 // stride, -(-160 // stride))
        assert len(anchors) == height * width * per_cell
    assert seen["frame"].image_sizes == ((128, 160),)


# -- half precision --------------------------------------------------------------------------------


def losses_and_anchors(model: nn.Module, half: bool) -> tuple[dict[str, Tensor], list[Tensor]]:
    seen: list[list[Tensor]] = []
    generator = getattr(model, "anchor_generator", None) or model.rpn.anchor_generator
    handle = generator.register_forward_hook(lambda _, __, anchors: seen.append(anchors))
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        losses = model(photographs((128, 160), (150, 128)), targets(2))
    handle.remove()
    return losses, seen[0]


@every_detector
@every_preset
def test_losses_under_autocast_are_those_of_float32(kind, preset) -> None:
    # Frozen at evaluation: what is compared is the precision, not the batch's statistics.
    model = tiny(kind, preset, norm="frozen").train()
    full, expected = losses_and_anchors(copy.deepcopy(model), half=False)
    half, anchors = losses_and_anchors(model, half=True)
    for ours, theirs in zip(anchors, expected, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)
    for name, loss in half.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, full[name], rtol=0.02, atol=1e-3)
    sum(half.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@every_detector
@every_preset
def test_detections_under_autocast_are_in_float32(kind, preset) -> None:
    model = scramble(tiny(kind, preset, min_size=128, max_size=160)).eval()
    heads = []
    head = model.head if kind is RetinaNet else model.roi_heads.box_predictor
    head.register_forward_hook(lambda _, __, output: heads.append(output))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = model(photographs((128, 140)))[0]
    outputs = heads[0].values() if kind is RetinaNet else heads[0]
    assert {output.dtype for output in outputs} == {torch.float32}
    assert {found[key].dtype for key in ("boxes", "scores")} == {torch.float32}
    # Coordinates that went through bfloat16 would have 8 significant bits.
    assert not torch.equal(found["boxes"].bfloat16().float(), found["boxes"])


@every_detector
@every_preset
def test_a_network_in_half_precision_throughout(kind, preset) -> None:
    model = tiny(kind, preset, norm="frozen", min_size=64, max_size=80).bfloat16()
    images = [image.bfloat16() for image in photographs((128, 160), (150, 128))]
    losses = model.train()(images, targets(2))
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(loss.isfinite() for loss in losses.values())
    assert model.eval()(images)[0]["boxes"].dtype == torch.float32


# -- what differs ----------------------------------------------------------------------------------


@every_detector
def test_an_unknown_preset_is_refused(kind) -> None:
    with pytest.raises(ValueError, match=r"preset='mmdet': expected one of torchvision, detectron"):
        tiny(kind, "mmdet")


@every_detector
def test_strides_in_the_first_convolution_need_bottlenecks(kind) -> None:
    with pytest.raises(ValueError, match=r"stride_in_1x1=True: resnet18 has no bottleneck blocks"):
        tiny(kind, "detectron2", "resnet18", stride_in_1x1=True)
    model = tiny(kind, "torchvision", "resnet50", stride_in_1x1=True)
    block = model.backbone.body["layer3"][0]
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
    assert model.without_limbeck() is None
    assert {"C2", "C3", "C4", "C5"} <= landmarks(model).keys()


@pytest.mark.parametrize(("preset", "columns"), list(zip(NAMES, [4, 3, 3], strict=True)))
def test_labels_count_from_one(preset: str, columns: int) -> None:
    model = tiny(RetinaNet, preset, levels=(3, 5), min_size=64, max_size=64).eval()
    logits = model.head.classification_head.cls_logits
    assert logits.out_channels == 9 * columns
    wanted = torch.full((9, columns), -9.0)
    wanted[:, -2] = 3.0  # the second of three classes
    logits.bias.data.copy_(wanted.flatten())
    assert (model(photographs((64, 64)))[0]["labels"] == 2).all()
    target = targets(1)[0] | {"labels": torch.tensor([2])}
    right = model.train()(photographs((64, 64)), [target])["classification"]
    logits.bias.data.copy_(wanted.roll(1, dims=1).flatten())
    assert model(photographs((64, 64)), [target])["classification"] > right


@pytest.mark.parametrize(("preset", "expected"), list(zip(NAMES, [300, 100, 100], strict=True)))
def test_an_explicit_argument_wins(preset: str, expected: int) -> None:
    assert tiny(RetinaNet, preset).detections_per_img == expected
    assert tiny(RetinaNet, preset, detections_per_image=7).detections_per_img == 7
    sizes = tuple((2.0**k + 0.5,) for k in range(5, 10))
    model = tiny(RetinaNet, preset, anchor_sizes=sizes)
    assert model.anchor_generator.sizes == sizes


# -- what a preset does otherwise than another library, in words -----------------------------------

ROUNDED = "anchors are whole pixels, and their stride is image // grid"
SIZES = "sides of a resized image are rounded down"
FILTER = "images are resized with antialiasing"
NO_FILTER = "images are resized without antialiasing"
BOUND = "boxes shrink by 16 / 1000 at most"
NO_BOUND = "boxes may shrink by more than 16 / 1000"
CLIPPED = "boxes are clipped before NMS"
CLIPPED_LAST = "boxes are clipped after NMS"
EMPTY = "boxes that clipping emptied are kept"


@pytest.mark.parametrize(
    ("ours", "theirs", "retinanet", "faster_rcnn"),
    [
        (
            "torchvision",
            "detectron2",
            [ROUNDED, SIZES, NO_FILTER, CLIPPED, EMPTY],
            [ROUNDED, SIZES, NO_FILTER],
        ),
        (
            "torchvision",
            "mmdetection",
            [ROUNDED, SIZES, NO_BOUND, EMPTY],
            [ROUNDED, SIZES, NO_BOUND],
        ),
        ("detectron2", "mmdetection", [FILTER, NO_BOUND, CLIPPED_LAST], [FILTER, NO_BOUND]),
        ("mmdetection", "detectron2", [NO_FILTER, BOUND, CLIPPED], [NO_FILTER, BOUND]),
        ("detectron2", "detectron2", [], []),
    ],
)
def test_differences_are_said_from_the_table(ours, theirs, retinanet, faster_rcnn) -> None:
    assert differences(RETINANET[ours], RETINANET[theirs]) == retinanet
    assert differences(FASTER_RCNN[ours], FASTER_RCNN[theirs]) == faster_rcnn


@pytest.mark.parametrize("kind", PRESETS)
def test_every_value_of_a_field_has_its_sentence(kind) -> None:
    """Each preset has something to say of every other one, in both directions."""
    for ours in PRESETS[kind].values():
        for theirs in PRESETS[kind].values():
            assert bool(differences(ours, theirs)) is (ours is not theirs)


def test_the_smallest_side_of_a_proposal_is_the_smallest_normal_number() -> None:
    assert FASTER_RCNN["detectron2"].rpn_min_size == torch.finfo(torch.float32).tiny
