"""HEAD and TF-HEAD beyond the authors' numbers: what runs, what is trained, what is refused."""

from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation
from limbeck.methods import HEAD, TFHEAD
from limbeck.methods.head.picture import NEGATIVES
from limbeck.models import FasterRCNN, RetinaNet, save_student
from limbeck.presets import RETINANET
from limbeck.schedules import EarlyStop, WarmUp
from tests import batches, observation, small_models
from tests.models.detection.tiny_detectors import TINY, tiny

FEW = {"proposals": 20, "samples": 40}
TRUNK = "student.backbone"
TOWER = "student.head.classification_head.conv"
ASSIST = {"assist.classification", "assist.bbox_regression"}
BATCH = partial(batches.detection_batch, size=128)
stock = partial(detection.fasterrcnn_resnet50_fpn_v2, weights=None, weights_backbone=None)


def teacher(block: type = Bottleneck, channels: int = 32) -> nn.Module:
    return small_models.faster_rcnn(block, channels)


def parts(losses, name: str) -> set[str]:
    return {part.removeprefix(f"{name}/") for part in losses if part.startswith(f"{name}/")}


# -- parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"akd": None, "ckd": None}, set()),
        ({"ckd": None}, {"akd.1", "akd.2"}),
        ({"akd": None}, {"ckd"}),
        ({}, {"akd.1", "akd.2", "ckd"}),
    ],
)
def test_parts_are_switched_by_arguments(arguments, expected) -> None:
    method = HEAD(**arguments, **FEW)
    pair = Distillation(small_models.retinanet(), teacher() if expected else None, [method])
    assert parts(pair(*BATCH()), "HEAD") == ASSIST | expected
    assert {name.partition(".")[0] for name, _ in method.named_parameters()} == {
        "assist",
        *(part.partition(".")[0] for part in expected),
    }


def test_published_weights() -> None:
    pair = Distillation(small_models.retinanet(), teacher(), [HEAD(**FEW)])
    method = pair.methods["HEAD"]
    distilled = [part for part in method.weights if part not in ASSIST]
    for step, weight in {0: 0.0, 500: 0.5, 2000: 2.0, 90000: 2.0}.items():
        weights = method.weights_at(step)
        assert {weights[part] for part in ASSIST} == {1.0}
        assert {weights[part] for part in distilled} == {weight}


def test_the_assists_own_losses_are_weighted() -> None:
    pair = Distillation(small_models.retinanet(), None, [HEAD(None, None, WarmUp(2.0, 10), **FEW)])
    assert pair.methods["HEAD"].weights_at(5) == dict.fromkeys(ASSIST, 1.0)


def test_published_weights_without_a_teacher() -> None:
    pair = Distillation(small_models.retinanet(), None, [TFHEAD(**FEW)])
    method = pair.methods["TFHEAD"]
    for step, weights in {0: (0, 0), 1000: (0.5, 0.65), 58640: (1, 1.3), 58641: (1, 0)}.items():
        found = method.weights_at(step)
        assert {found[part] for part in ASSIST} == {weights[0]}
        assert found["ckd"] == weights[1]


def test_the_step_count_is_in_the_checkpoint() -> None:
    pair = Distillation(small_models.retinanet(), teacher(), [HEAD(ckd=EarlyStop(2.0, 1), **FEW)])
    pair.advance()
    pair.advance()
    other = Distillation(
        small_models.retinanet(), pair.teacher, [HEAD(ckd=EarlyStop(2.0, 1), **FEW)]
    )
    other.load_state_dict(pair.state_dict())
    weights = other(*BATCH()).weights
    assert weights["HEAD/akd.1"] == 2.0 * 2 / 2000
    assert weights["HEAD/ckd"] == 0.0


# -- gradients ------------------------------------------------------------------------------------


def reached(pair: Distillation, part: str) -> set[str]:
    """Parts of the student, and modules of the method, that a loss has a gradient in."""
    pair.zero_grad()
    pair(*BATCH()).raw[part].backward()
    moved = [
        name
        for name, parameter in pair.named_trainable_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    ]
    head = "student.head"
    names = (TRUNK, TOWER, f"{head}.classification_head.cls_logits", f"{head}.regression_head")
    own = ("assist", "rcnn", "fcos", "akd", "ckd", "towers")
    return {name for name in names if any(full.startswith(name) for full in moved)} | {
        name for name in own if any(full.startswith(f"methods.it.{name}.") for full in moved)
    }


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("assist.classification", {TRUNK, "assist"}),
        ("assist.bbox_regression", {TRUNK, "assist"}),
        ("akd.1", {TRUNK, "assist", "akd"}),
        ("akd.2", {TRUNK, "assist", "akd"}),
        ("ckd", {TRUNK, TOWER, "ckd"}),
    ],
)
def test_where_the_gradients_of_head_go(part, expected) -> None:
    pair = Distillation(small_models.retinanet(), teacher(), {"it": HEAD(1.0, 1.0, **FEW)})
    assert reached(pair, f"it/{part}") == expected


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("assist.classification", {TRUNK, "rcnn"}),
        ("ckd", {TRUNK, TOWER, "ckd"}),
        ("fcos.classification", {TRUNK, "fcos"}),
        ("fcos.bbox_ctrness", {TRUNK, "fcos"}),
        ("towers", {TRUNK, TOWER, "towers"}),
    ],
)
def test_an_assist_does_not_learn_from_the_dense_head(part, expected) -> None:
    pair = Distillation(small_models.retinanet(), None, {"it": TFHEAD(1.0, 1.0, **FEW)})
    assert reached(pair, f"it/{part}") == expected


def test_no_gradient_through_proposals() -> None:
    """What the assist learns does not move what the dense head predicts."""
    pair = Distillation(small_models.retinanet(), None, {"it": HEAD(None, None, **FEW)})
    losses = pair(*BATCH())
    sum(losses.raw[f"it/{part}"] for part in ASSIST).backward()
    assert all(p.grad is None for p in pair.student.head.parameters())


# -- the teacher ----------------------------------------------------------------------------------


def test_the_teacher_runs_trunk_neck_and_hidden_layers_alone() -> None:
    pair = Distillation(small_models.retinanet(), teacher(), [HEAD(**FEW)])
    model = pair.teacher
    modules = {
        "backbone": (model.backbone, 1),
        "pooling": (model.roi_heads.box_roi_pool, 1),
        "fc7": (model.roi_heads.box_head.fc7, 1),
        "rpn": (model.rpn, 0),
        "predictions": (model.roi_heads.box_predictor, 0),
    }
    counts = {}
    for name, (module, _) in modules.items():
        with observation.calls_of(module) as calls:
            pair(*BATCH())
        counts[name] = len(calls)
    assert counts == {name: expected for name, (_, expected) in modules.items()}


def test_the_teacher_looks_at_the_students_regions() -> None:
    pair = Distillation(small_models.retinanet(), teacher(), [HEAD(**FEW)])
    seen = {}
    pools = {"teacher": pair.teacher.roi_heads, "assist": pair.methods["HEAD"].assist}
    for name, part in pools.items():
        part.box_roi_pool.register_forward_pre_hook(
            lambda _, inputs, name=name: seen.update({name: inputs[1]})
        )
    _, targets = BATCH()
    pair(*BATCH())
    for ours, theirs, target in zip(seen["assist"], seen["teacher"], targets, strict=True):
        assert torch.equal(ours, theirs)
        assert len(ours) == 2 + FEW["proposals"]  # the ground truth, and every proposal
        assert torch.equal(ours[:2], target["boxes"])


def test_the_assist_begins_as_the_teachers_box_head() -> None:
    pair = Distillation(small_models.retinanet(), teacher(), [HEAD(**FEW)])
    theirs = pair.teacher.roi_heads.state_dict()
    assert theirs.keys() == pair.methods["HEAD"].assist.state_dict().keys()
    assert observation.same(theirs, pair.methods["HEAD"].assist.state_dict())
    small_models.train_step(pair, BATCH())
    assert observation.same(theirs, pair.teacher.roi_heads.state_dict())
    assert not observation.same(theirs, pair.methods["HEAD"].assist.state_dict())


def test_an_assist_may_begin_afresh() -> None:
    narrow = FasterRCNN(
        TINY, small_models.CLASSES, fpn_channels=8, box_head_channels=24, norm="trained"
    )
    pair = Distillation(small_models.retinanet(), narrow, [HEAD(transfer=False, **FEW)])
    assist = pair.methods["HEAD"].assist
    assert assist.box_head.fc6.in_features == 32 * 49
    assert assist.box_predictor.cls_score.in_features == 24
    assert "HEAD/akd.2" in pair(*BATCH())


# -- the student ----------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", RETINANET)
def test_the_kept_student_is_a_plain_one(preset, tmp_path) -> None:
    student = tiny(RetinaNet, preset)
    plain = {name: value.shape for name, value in student.state_dict().items()}
    faster = tiny(FasterRCNN, preset)
    pair = Distillation(student, faster, [HEAD(**FEW), TFHEAD(**FEW, box_head_channels=8)])
    small_models.train_step(pair, BATCH())
    assert {name: value.shape for name, value in student.state_dict().items()} == plain
    save_student(student, tmp_path)


@pytest.mark.parametrize("make", [small_models.retinanet, small_models.fcos])
@pytest.mark.parametrize("method", [HEAD(**FEW), TFHEAD(1.0, 1.0, **FEW)])
def test_stock_students(make, method) -> None:
    student = make()
    taught = teacher(channels=student.backbone.out_channels)
    losses = Distillation(student, taught, {"it": method})(*BATCH())
    losses.total.backward()
    assert all(loss.isfinite() for loss in losses.raw.values())


@pytest.mark.slow
def test_a_teacher_with_another_box_head() -> None:
    taught = stock(num_classes=small_models.CLASSES + 1)
    student = RetinaNet(TINY, small_models.CLASSES, norm="trained")
    pair = Distillation(student, taught, {"it": HEAD(**FEW)})
    assert parts(pair(*BATCH()), "it") == ASSIST | {"akd.1", "ckd"}
    assert observation.same(taught.roi_heads.state_dict(), pair.methods["it"].assist.state_dict())


def test_images_without_objects() -> None:
    pair = Distillation(small_models.retinanet(), teacher(), {"it": HEAD(1.0, 1.0, **FEW)})
    images, _ = BATCH()
    nothing = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}] * 2
    losses = pair(images, nothing)
    losses.total.backward()
    assert losses["it/assist.bbox_regression"] == 0
    assert losses["it/ckd"] > 0
    every = [name for name, p in pair.named_trainable_parameters() if p.grad is None]
    assert every == []


# -- refusals -------------------------------------------------------------------------------------


def without_pyramid(make: type) -> nn.Module:
    """A detector over one map of stride 8."""
    trunk = nn.Sequential(nn.Conv2d(3, 16, 8, 8))
    trunk.out_channels = 16
    anchors = AnchorGenerator(((16,),), ((1.0,),))
    if make is detection.RetinaNet:
        return make(trunk, 5, anchor_generator=anchors)
    return make(trunk, 5, rpn_anchor_generator=anchors)


def ssd() -> nn.Module:
    return detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=5)


@pytest.mark.parametrize(
    ("student", "of", "arguments", "message"),
    [
        (teacher, lambda: None, {"akd": None, "ckd": None}, "box head of its own"),
        (teacher, teacher, {}, r"has a box head, too.*FitNet"),
        (teacher, small_models.fcos, {}, "is no RetinaNet"),
        (teacher, small_models.retinanet, {"adapter": "per_anchor"}, "have no anchors; use shared"),
        (
            teacher,
            partial(small_models.retinanet, channels=48),
            {},
            r"32 channels .* 48 .*transfer false",
        ),
        (ssd, teacher, {}, "different widths"),
        (small_models.resnet, teacher, {}, "no dense head"),
        (
            partial(without_pyramid, detection.RetinaNet),
            teacher,
            {},
            "the student RetinaNet is no feature pyramid",
        ),
        (
            small_models.retinanet,
            partial(without_pyramid, detection.FasterRCNN),
            {},
            "the teacher FasterRCNN is no feature pyramid",
        ),
        (
            partial(without_pyramid, detection.FasterRCNN),
            small_models.retinanet,
            {},
            "the student FasterRCNN is no feature pyramid",
        ),
        (small_models.retinanet, small_models.retinanet, {}, r"no box head .*FitNet"),
        (small_models.retinanet, lambda: None, {}, "needs a teacher"),
        (
            small_models.retinanet,
            partial(teacher, channels=16),
            {},
            r"box_head.*fc6.*transfer false",
        ),
        (
            small_models.retinanet,
            partial(stock, num_classes=small_models.CLASSES + 1),
            {},
            r"32 channels, .* FastRCNNConvFCHead takes 256.*transfer false",
        ),
        (
            small_models.retinanet,
            stock,
            {"transfer": False},
            "AKD compares layer by layer",
        ),
    ],
)
def test_a_pair_that_lacks_something_is_refused(student, of, arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        Distillation(student(), of(), [HEAD(**arguments)])


def test_refusals_without_a_teacher() -> None:
    with pytest.raises(ValueError, match="rcnn or fcos"):
        TFHEAD(rcnn=None)
    with pytest.raises(ValueError, match=r"8 channels.*32 groups"):
        Distillation(tiny(RetinaNet, "torchvision"), None, [TFHEAD(fcos=1.0)])
    with pytest.raises(ValueError, match="TFHEAD: the student FasterRCNN"):
        Distillation(teacher(), None, [TFHEAD()])


@pytest.mark.parametrize("method", [HEAD, TFHEAD])
@pytest.mark.parametrize("name", ["proposals", "samples", "box_head_channels"])
def test_sizes_that_no_memory_holds_are_refused(method, name) -> None:
    for value in (0, 10**6):
        with pytest.raises(ValueError, match=rf"^{method.__name__}'s {name} is {value}; expected"):
            method(**{name: value})


# -- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [HEAD(**FEW), HEAD(akd=None, ckd=None, **FEW), TFHEAD(**FEW)])
def test_the_picture_shows_the_regions_of_the_assist_and_the_cells_that_are_taught(method) -> None:
    pair = Distillation(small_models.retinanet(), teacher(), {"it": method})
    images, targets = BATCH()
    shown = pair.picture(images, targets, "it")
    positives, negatives = shown.columns["regions of objects"], shown.columns[NEGATIVES]
    for target, objects, others in zip(targets, positives, negatives, strict=True):
        # The ground truth is among the regions, in its own class.
        assert set(target["labels"].tolist()) <= set(objects["labels"].tolist())
        assert not others["labels"].any()
        assert len(objects["boxes"]) + len(others["boxes"]) <= FEW["samples"]
    taught = [part for part in method.weights if part == "ckd"]
    assert ("cells that CKD teaches" in shown.columns) == bool(taught)
    for image, cells in zip(images, shown.columns.get("cells that CKD teaches", []), strict=False):
        assert cells.shape == image.shape[1:]
        assert 0 < cells.max() < 1
    assert pair.training


def test_an_fcos_assist_alone_has_no_regions_to_show() -> None:
    pair = Distillation(small_models.retinanet(), None, {"it": TFHEAD(rcnn=None, fcos=1.0)})
    assert pair.picture(*BATCH(), "it") is None
