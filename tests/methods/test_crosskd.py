import copy
import dataclasses
from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.resnet import Bottleneck
from torchvision.ops import Conv2dNormActivation

from limbeck import Distillation, Taps
from limbeck.methods import CrossKD, Side, Step
from limbeck.methods.crosskd import aligned
from limbeck.models import FCOS, GFL, BasicBlocks, RetinaNet
from limbeck.models.detection.parts.gfl_head import GFLHead, GroupNorm
from limbeck.models.detection.parts.heads import RetinaNetHead
from limbeck.presets import RETINANET
from tests import batches, small_models, tiny_models
from tests.methods.modern import assert_gradient, assert_loss, case_of

BRANCHES = {"classification": "cls", "boxes": "reg"}
COLUMNS = 3


class GivenLabels(CrossKD):
    """What labels make of the anchors is given."""

    def counted(self, step, anchors):
        return self.weights_of_anchors, self.positives


def levels_of(case, name):
    count = sum(key.startswith("student.") for key in case)
    return [case[f"{name}.{level}"] for level in range(count)]


PATHS = {
    "cls_convs": "classification_head.conv",
    "reg_convs": "regression_head.conv",
    "retina_cls": "classification_head.cls_logits",
    "retina_reg": "regression_head.bbox_reg",
    "gfl_cls": "classification_head.cls_logits",
    "gfl_reg": "regression_head.bbox_reg",
    "scales": "regression_head.scales",
}


def renamed(name):
    """The name of the authors' parameter in limbeck's head."""
    first, rest = name.split(".", 1)
    return f"{PATHS[first]}.{rest.replace('.conv.', '.0.').replace('.gn.', '.1.')}"


def gfl_head(channels, depth, levels, numbers):
    """A GFL's head with norms of two groups, and another number of bins, as the fixture has."""
    head = GFLHead(32, COLUMNS, depth, levels)
    for branch in (head.classification_head, head.regression_head):
        norm = partial(GroupNorm, 2)
        layers = (Conv2dNormActivation(channels, channels, norm_layer=norm) for _ in range(depth))
        branch.conv = nn.Sequential(*layers)
    head.classification_head.cls_logits = nn.Conv2d(channels, COLUMNS, 3, padding=1)
    head.regression_head.bbox_reg = nn.Conv2d(channels, numbers, 3, padding=1)
    return head


def detector_of(case, side):
    """The head of one side of a case, in a detector whose backbone is never run."""
    prefix = f"param.{side}."
    own = [name for name in case if name.startswith(prefix)]
    state = {renamed(name.removeprefix(prefix)): case[name] for name in own}
    depth = sum(name.endswith(".conv.weight") for name in own) // 2
    channels, numbers = case["student.0"].shape[1], len(state["regression_head.bbox_reg.bias"])
    if "reg_normaliser" in case:
        head = gfl_head(channels, depth, len(levels_of(case, "student")), numbers)
    else:
        head = RetinaNetHead(channels, numbers // 4, COLUMNS, depth)
    head.load_state_dict(state)
    backbone = nn.Identity()
    backbone.out_channels = channels
    model = detection.RetinaNet(backbone, COLUMNS, head=head)
    model.preset = RETINANET["mmdetection"]  # no column is left unused
    return model


def crossing(case):
    """The method and the step of a case, with both heads run on its maps."""
    student, teacher = (detector_of(case, side) for side in ("student", "teacher"))
    teacher.requires_grad_(False)
    method = GivenLabels(held=int(case["reused_teacher_head_idx"]))
    method.connect(student, teacher)
    method.weights_of_anchors = torch.cat(levels_of(case, "label_weights"), dim=1)
    method.positives = case["avg_factor"].float()
    maps = [m.requires_grad_() for m in levels_of(case, "student")]
    ours = {branch: method.student_taps[branch] for branch in BRANCHES}
    seen = Taps(student, ours).learn(lambda: student.head(maps))
    seen["anchors"] = [
        [of_level[0] for of_level in levels_of(case, "anchors")]
        if "anchors.0" in case
        else [torch.zeros(m[0, 0].numel(), 4) for m in maps]  # of no meaning to GFL's losses
    ]
    with torch.no_grad():
        taught = Taps(teacher, method.teacher_taps).learn(
            lambda: teacher.head(levels_of(case, "teacher"))
        )
    sides = Side(student, seen), Side(teacher, taught)
    return method, Step([], None, *sides, number=0, world_size=1), maps


@pytest.mark.parametrize("name", ["retina_idx3", "retina_idx0", "gfl_idx3"])
def test_losses_and_gradients_are_the_authors(shared, name):
    case = case_of(shared, "crosskd.npz", name)
    method, step, maps = crossing(case)
    for branch, short in BRANCHES.items():
        crossed = method.crossed(step, branch)
        own = step.taught.features[f"own {branch}"]
        for level in range(len(maps)):
            for found, wanted in ((crossed, "cross"), (own, "teacher")):
                expected = case[f"{wanted}_{short}.{level}"]
                torch.testing.assert_close(found[level], expected, rtol=1e-4, atol=1e-4)
    weights = method.weights_at(0)
    losses = {branch: weights[branch] * loss for branch, loss in method(step).items()}
    for branch, short in BRANCHES.items():
        assert_loss(losses[branch], sum(levels_of(case, f"loss_{short}_kd")))
    total = sum(losses.values())
    assert_loss(total, case["loss_total"])
    total.backward()
    for level, feature in enumerate(maps):
        assert_gradient(feature.grad, case[f"grad_student.{level}"])
    prefix = "grad.student."
    gradients = [key for key in case if key.startswith(prefix)]
    assert bool(gradients) == name.endswith("idx3")
    for key in gradients:
        found = step.student.model.head.get_parameter(renamed(key.removeprefix(prefix)))
        assert_gradient(found.grad, case[key])


def decided(model):
    """A detector whose predictions lie apart."""
    for name, parameter in model.head.named_parameters():
        if name.endswith("weight") and parameter.dim() == 4:
            nn.init.kaiming_normal_(parameter)
    return model


def own_losses(losses):
    return {name: losses.raw[name] for name in losses if name.startswith("it/")}


def test_the_published_values():
    retinanet, fcos = (
        Distillation(make(), make(), {"it": CrossKD()}).method("it")
        for make in (small_models.retinanet, small_models.fcos)
    )
    assert retinanet.weights == {"classification": 1.0, "boxes": 1.0}
    assert retinanet.student_taps["boxes"] == "head.regression_head.conv.2.0[*]"
    assert fcos.weights == {"classification": 0.4, "boxes": 0.75}
    # The normalisation of the second convolution, before its activation.
    assert fcos.teacher_taps["classification"] == "head.classification_head.conv.4[*]"
    given = CrossKD(held=0, classification=2.0)
    given.connect(small_models.fcos(), small_models.fcos())
    assert given.weights == {"classification": 2.0, "boxes": 0.75}
    assert given.student_taps["boxes"] == "head.regression_head.conv:input[*]"


@pytest.mark.parametrize("held", [0, 1, 3, 4])
def test_a_student_that_is_the_teacher_has_nothing_to_learn(held):
    student = decided(small_models.retinanet())
    pair = Distillation(student, copy.deepcopy(student), {"it": CrossKD(held)}).train()
    batch = batches.detection_batch(2, 128)
    assert all(loss < 1e-3 for loss in own_losses(pair(*batch)).values())
    with torch.no_grad():
        for parameter in student.backbone.fpn.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert all(loss > 1e-2 for loss in own_losses(pair(*batch)).values())


def test_the_student_learns_up_to_where_it_is_held_and_the_teacher_not_at_all():
    student, teacher = (
        decided(small_models.retinanet()),
        decided(small_models.retinanet(Bottleneck)),
    )
    pair = Distillation(student, teacher, {"it": CrossKD(held=2)}, student_weight=0.0).train()
    pair(*batches.detection_batch(2, 128)).total.backward()
    for branch in (student.head.classification_head, student.head.regression_head):
        learnt = [layer[0].weight.grad.abs().sum() > 0 for layer in branch.conv]
        assert learnt == [True, True, False, False]
    assert student.head.classification_head.cls_logits.weight.grad.abs().sum() == 0
    assert all(p.grad is None for p in teacher.parameters())


def test_the_teacher_is_the_pairs_own_wherever_that_goes():
    """The original keeps a teacher beside the modules, which nothing moves or copies."""
    models = decided(small_models.retinanet()), decided(small_models.retinanet(Bottleneck))
    pair = Distillation(*models, {"it": CrossKD()}).train()
    batch = batches.detection_batch(1, 128)
    expected = own_losses(pair(*batch))
    other = copy.deepcopy(pair)
    nn.init.zeros_(other.teacher.head.classification_head.cls_logits.weight)
    assert own_losses(other(*batch))["it/classification"] < 1e-6
    assert own_losses(pair(*batch)) == expected


def gfl():
    return GFL(BasicBlocks((1, 1, 1, 1), (8, 8, 16, 16)), small_models.CLASSES, fpn_channels=32)


def fcos():
    blocks = BasicBlocks((1, 1, 1, 1), (8, 8, 16, 16))
    return FCOS(blocks, small_models.CLASSES, fpn_channels=32)


@pytest.mark.parametrize(
    ("make", "held"),
    [
        (small_models.retinanet, "conv.2.0[*]"),
        (small_models.fcos, "conv.4[*]"),
        (fcos, "conv.4[*]"),
        (gfl, "conv.2.1[*]"),
    ],
)
def test_pairs_of_every_kind_distil(make, held):
    pair = Distillation(decided(make()), decided(make()), {"it": CrossKD()}, student_weight=0.0)
    assert pair.method("it").student_taps["boxes"] == f"head.regression_head.{held}"
    losses = pair.train()(*batches.detection_batch(2, 128))
    assert all(loss > 1e-3 for loss in own_losses(losses).values())
    losses.total.backward()
    head = pair.student.head
    for branch in (head.classification_head, head.regression_head):
        assert next(branch.conv.parameters()).grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("make", "over_processes"), [(gfl, True), (fcos, True), (small_models.retinanet, False)]
)
def test_the_mean_over_processes_is_what_gfl_and_fcos_divide_by(make, over_processes, monkeypatch):
    """A process without boxes would else drown the others (crosskd_gfl.py and crosskd_fcos.py)."""
    pair = Distillation(make(), decided(make()), [CrossKD()])
    images, targets = batches.detection_batch(2)
    step = pair.run(images, targets)[1]["CrossKD"]
    alone = pair.method("CrossKD")(step)
    of_the_other = 1000.0
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda own: own.add_(of_the_other))
    counted = pair.method("CrossKD").counted(step, pair.method("CrossKD")._anchors(step))[1]
    shared = pair.method("CrossKD")(dataclasses.replace(step, world_size=2))
    mean = (counted + of_the_other) / 2 if over_processes else counted
    assert torch.allclose(shared["classification"] * mean, alone["classification"] * counted)


def test_no_anchor_that_counts_costs_nothing_where_the_original_divides_by_zero():
    pair = Distillation(decided(gfl()), decided(gfl()), {"it": GivenLabels()}).train()
    _, steps = pair.run(*batches.detection_batch(1, 128))
    method = pair.method("it")
    method.weights_of_anchors, method.positives = torch.zeros(1), torch.tensor(1)
    assert {name: loss.item() for name, loss in method(steps["it"]).items()} == {
        "classification": 0.0,
        "boxes": 0.0,
    }


def test_one_value_a_channel_and_images_without_boxes_are_finite():
    """P7 of one image of 128 px is one position: the original is NaN."""
    for make in (small_models.retinanet, small_models.fcos, gfl):
        pair = Distillation(decided(make()), decided(make()), {"it": CrossKD()}).train()
        losses = pair(list(batches.pictures(1, 128)), [batches.nothing()])
        losses.total.backward()
        assert all(0 < loss < 1e3 for loss in own_losses(losses).values())
        gradients = [p.grad for p in pair.student.parameters() if p.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)


def test_aligned_maps_have_the_teachers_scale():
    student, teacher = torch.randn(2, 3, 4, 5), 7 * torch.randn(2, 3, 4, 5) - 2
    found = aligned(student, teacher)
    for values in (found.std, found.mean):
        torch.testing.assert_close(values((0, 2, 3)), getattr(teacher, values.__name__)((0, 2, 3)))
    torch.testing.assert_close(aligned(3 * student + 1, teacher), found)


def test_a_channel_of_one_value_or_without_variation_takes_the_teachers_mean():
    point = torch.randn(1, 3, 1, 1, requires_grad=True)
    teacher = torch.randn(1, 3, 1, 1)
    found = aligned(point, teacher)
    assert torch.equal(found, teacher)
    found.sum().backward()
    assert (point.grad == 0).all()
    flat = torch.randn(2, 3, 4, 5)
    flat[:, 1] = 0.5
    flat.requires_grad_()
    teacher = torch.randn(2, 3, 4, 5)
    (aligned(flat, teacher) * torch.randn(2, 3, 4, 5)).sum().backward()
    assert flat.grad.abs().max() < 1e4  # 1e6 times a usual gradient in the original


def test_libraries_numerics_meet():
    """torchvision's unused column is left out, and its anchors are rounded."""
    arguments = tiny_models.DETECTOR | {"backbone": BasicBlocks(**tiny_models.BLOCKS)}
    for presets in (("torchvision", "mmdetection"), ("mmdetection", "torchvision")):
        models = [RetinaNet(**arguments | {"preset": preset}) for preset in presets]
        pair = Distillation(*map(decided, models), {"it": CrossKD()}).train()
        assert all(loss > 0 for loss in own_losses(pair(*batches.detection_batch(2))).values())


def retinanet(**changed):
    blocks = BasicBlocks(**tiny_models.BLOCKS)
    return RetinaNet(**tiny_models.DETECTOR | {"backbone": blocks, "head_depth": 2} | changed)


@pytest.mark.parametrize(
    ("teacher", "held", "message"),
    [
        (small_models.faster_rcnn, None, "and the teacher a FasterRCNN; .* PKD or CWD"),
        (small_models.fcos, None, "a RetinaNet and the teacher a FCOS; expected two R"),
        (
            partial(retinanet, head_depth=4),
            None,
            "held is 3; .* 2 convo.* 4. Give",
        ),
        (retinanet, 3, "held is 3; .* 2 convolutions and the teacher's 2"),
        (
            partial(retinanet, fpn_channels=24),
            None,
            "maps of 16 x 16 x 16, 16 x 8 x 8 and the teacher of 24 x 16 x 16",
        ),
        (
            partial(retinanet, levels=(3, 3), anchor_sizes=[[14, 20]]),
            None,
            r"16 x 8 x 8 and the teacher of 16 x 16 x 16 \(channels",
        ),
        (partial(retinanet, num_classes=4), None, "has 5 classes and the teacher 4"),
        (
            partial(retinanet, anchor_sizes=[[14, 20], [28, 48]]),
            None,
            r"for 640, number \d+ of 40 x 40 px, the teacher's for 640, number \d+ of 48 x 48",
        ),
        (partial(retinanet, anchor_sizes=[[14], [28]]), None, "for 640, .* teacher's for 320, "),
    ],
)
def test_heads_that_do_not_agree_are_refused(teacher, held, message):
    with pytest.raises(ValueError, match=f"CrossKD: .*{message}"):
        Distillation(retinanet(), teacher(), {"it": CrossKD(held)})


def test_it_needs_a_teacher_and_boxes():
    with pytest.raises(ValueError, match="CrossKD needs a teacher"):
        Distillation(retinanet(), None, {"it": CrossKD()})
    pair = Distillation(retinanet(), retinanet(), {"it": CrossKD()}).eval()
    _, steps = pair.run(list(batches.pictures(1)), None)
    with pytest.raises(TypeError, match="CrossKD needs boxes"):
        pair.method("it")(steps["it"])
    with pytest.raises(ValueError, match="CrossKD's held is -1"):
        CrossKD(held=-1)


def test_a_teacher_that_is_its_own_student_finds_the_same_through_its_head():
    """Behind the correction of the scale, which it does not need."""
    teacher = small_models.retinanet()
    pair = Distillation(copy.deepcopy(teacher), teacher, {"it": CrossKD()})
    own, crossed = pair.picture(*batches.detection_batch(2, 128), "it").columns.values()
    for there, here in zip(own, crossed, strict=True):
        assert there.shape == (128, 128)
        torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-4)
