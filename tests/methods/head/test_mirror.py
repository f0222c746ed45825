"""HEAD the other way round: a two-stage student of a dense teacher."""

from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation
from limbeck.methods import HEAD
from limbeck.methods.head.mirror import centres
from limbeck.models import FasterRCNN, RetinaNet
from limbeck.presets import RETINANET
from tests import batches, observation, small_models
from tests.models.detection.tiny_detectors import tiny

ASSIST = {"assist.classification", "assist.bbox_regression"}
TRUNK = "student.backbone"
BATCH = partial(batches.detection_batch, size=128)


def pair_of(method: HEAD, teacher: nn.Module | None = None) -> Distillation:
    return Distillation(
        small_models.faster_rcnn(), teacher or small_models.retinanet(), {"it": method}
    )


def parts(losses) -> set[str]:
    return {part.removeprefix("it/") for part in losses if part.startswith("it/")}


def test_a_dense_assist_begins_as_the_teachers_head_and_learns() -> None:
    pair = pair_of(HEAD(1.0, 1.0), small_models.retinanet(Bottleneck))
    assist = pair.methods["it"].mirror.assist
    theirs = pair.teacher.head.state_dict()
    assert observation.same(theirs, assist.state_dict())
    plain = pair.student.state_dict().keys()
    small_models.train_step(pair, BATCH())
    assert observation.same(theirs, pair.teacher.head.state_dict())
    assert not observation.same(theirs, assist.state_dict())
    assert pair.student.state_dict().keys() == plain


@pytest.mark.parametrize("preset", RETINANET)
def test_a_two_stage_student_of_any_preset(preset) -> None:
    method = HEAD(transfer=False)
    pair = Distillation(tiny(FasterRCNN, preset), tiny(RetinaNet, preset), {"it": method})
    optimizer = torch.optim.SGD(pair.trainable_parameters(), 0.1)
    assert pair.check(*BATCH(), optimizer).connections
    losses = pair(*BATCH())
    assert parts(losses) == ASSIST | {"akd.1", "akd.2", "ckd"}
    losses.total.backward()
    assert all(p.grad is not None for p in method.parameters())
    assert all(loss.isfinite() for loss in losses.raw.values())


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("assist.classification", {TRUNK}),
        ("akd.1", {TRUNK}),
        ("akd.2", {TRUNK}),
        ("ckd", {TRUNK, "student.roi_heads.box_head"}),
    ],
)
def test_where_the_gradients_of_a_two_stage_student_go(part, expected) -> None:
    pair = pair_of(HEAD(1.0, 1.0))
    pair(*BATCH()).raw[f"it/{part}"].backward()
    moved = [n for n, p in pair.named_trainable_parameters() if p.grad is not None]
    moved = [name for name in moved if name.startswith("student.")]
    assert {name for name in expected if any(full.startswith(name) for full in moved)} == expected
    assert all(name.startswith(tuple(expected)) for name in moved)


def test_switched_off_parts_of_a_two_stage_student() -> None:
    pair = pair_of(HEAD(akd=None, ckd=None))
    assert parts(pair(*BATCH())) == ASSIST


def test_the_dense_assists_outputs_are_its_heads() -> None:
    pair = pair_of(HEAD())
    mirror = pair.methods["it"].mirror
    pyramid = [torch.rand(2, 32, 8 // 2**i, 8 // 2**i) for i in range(4)]
    _, outputs = mirror._dense(pyramid)
    for name, expected in mirror.assist(pyramid).items():
        torch.testing.assert_close(outputs[name], expected)


def test_a_region_belongs_to_the_level_whose_anchors_are_of_its_size() -> None:
    maps = [torch.zeros(2, 1, 16 // 2**i, 20 // 2**i) for i in range(3)]
    boxes = [
        torch.tensor([[0.0, 0, 40, 40], [0, 0, 3, 4], [8, 0, 128 + 8, 128]]),
        torch.tensor([[30.0, 60, 160, 128]]),
    ]
    expected = [[0, 0, 2, 2], [0, 0, 0, 0], [0, 2, 2, 2], [1, 1, 5, 5]]
    assert centres(boxes, maps, 3).tolist() == expected


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_a_two_stage_student_in_half_precision(half) -> None:
    pair = Distillation(
        tiny(FasterRCNN, "mmdetection"), tiny(RetinaNet, "mmdetection"), {"it": HEAD(1.0, 1.0)}
    )
    with torch.autocast("cpu", half):
        losses = pair(*BATCH())
    assert {loss.dtype for loss in losses.raw.values()} == {torch.float32}
    losses.total.backward()
    assert all(p.grad.isfinite().all() for p in pair.methods.parameters())


def test_the_assist_holds_none_of_the_teachers_hooks() -> None:
    """They hold the teacher: it would be there a second time, and on the wrong device."""
    teacher = small_models.retinanet()
    pair = pair_of(HEAD(), teacher)
    assert observation.hook_count(teacher.head) == 2
    assert observation.hook_count(pair.methods["it"].mirror) == 0


def test_a_dense_assist_is_of_the_students_classes() -> None:
    images, targets = BATCH()
    last = [target | {"labels": torch.full((2,), small_models.CLASSES)} for target in targets]
    for preset in RETINANET:
        of_three = tiny(RetinaNet, preset, fpn_channels=32)
        with pytest.raises(ValueError, match=r"and 4 classes, the teacher 32 and 3\. .*transfer"):
            pair_of(HEAD(), of_three)
        losses = pair_of(HEAD(1.0, 1.0, transfer=False), of_three)(images, last)
        assert all(loss.isfinite() for loss in losses.raw.values())


@pytest.mark.parametrize("ckd", [None, 1.0])
def test_the_picture_shows_the_students_own_regions(ckd) -> None:
    pair = pair_of(HEAD(1.0, ckd, transfer=False))
    images, targets = BATCH()
    targets[0] = {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64)}
    shown = pair.picture(images, targets, "it")
    assert not len(shown.columns["regions of objects"][0]["boxes"])
    assert all(len(of_image["boxes"]) for of_image in shown.columns["regions of the background"])
    assert ("cells that CKD reads" in shown.columns) == (ckd is not None)
