"""Which levels of two models are compared, and what is said of those that cannot be."""

import logging
from functools import partial

import pytest
import torch
import torchvision
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation
from limbeck.methods import AT, CWD, FGD, PKD, FitNet, MaskedGenerative
from limbeck.models import FCOS, GFL, SSD, BasicBlocks
from tests import batches, small_models
from tests.methods.modern import step_of

METHODS = [AT, CWD, PKD]
BLOCKS = BasicBlocks((1, 1, 1, 1), (8, 8, 16, 16))


def maps(*sides, channels=3):
    return [torch.randn(1, channels, side, side) for side in sides]


def partners_of(method, student, teacher):
    method.setup(step_of(student, teacher))
    return method.partners


def test_equal_lists_are_compared_by_number(caplog):
    caplog.set_level(logging.INFO)
    found = partners_of(CWD(), {"fpn": maps(8, 4, 2)}, {"fpn": maps(8, 4, 2)})
    assert found == {f"fpn.{i}": f"fpn.{i}" for i in range(3)}
    assert not caplog.records


def test_lists_of_other_levels_are_compared_by_stride_and_it_is_said(caplog):
    caplog.set_level(logging.INFO)
    method = CWD()
    found = partners_of(method, {"fpn": maps(16, 8, 4, 2)}, {"fpn": maps(32, 16, 8, 4)})
    assert found == {"fpn.0": "fpn.1", "fpn.1": "fpn.2", "fpn.2": "fpn.3"}
    assert method.weights == dict.fromkeys(found, 10.0)
    assert caplog.messages == [
        "CWD at fpn: levels are compared by stride, the student's with the teacher's: 0 (16 x 16) "
        "with 1 (16 x 16), 1 (8 x 8) with 2 (8 x 8), 2 (4 x 4) with 3 (4 x 4); left out: the "
        "student's 3, the teacher's 0"
    ]


@pytest.mark.parametrize("method", [CWD, FGD, MaskedGenerative])
def test_the_levels_of_a_one_stage_and_a_two_stage_detector(method):
    """P3 to P6 of both are compared; P2 of the one and P7 of the other have no partner."""
    student, teacher = small_models.retinanet(), small_models.faster_rcnn(Bottleneck)
    pair = Distillation(student, teacher, {"it": method()}).train()
    losses = pair(*batches.detection_batch(2, 128))
    levels = dict.fromkeys(".".join(name.split(".")[:2]) for name in losses if "it/" in name)
    assert [*levels] == [f"it/fpn.{i}" for i in range(4)]
    assert all(loss.isfinite() for loss in losses.values())
    _, steps = pair.run(*batches.detection_batch(2, 128))
    for ours, theirs in pair.method("it").levels(steps["it"]).values():
        assert ours.shape == theirs.shape


def gfl():
    return GFL(BLOCKS, small_models.CLASSES, fpn_channels=32)


def fcos():
    return FCOS(BLOCKS, small_models.CLASSES, fpn_channels=32)


def ssd():
    return SSD(BLOCKS, small_models.CLASSES, image_size=(128, 128), levels=(3, 6))


# Student, teacher, the place of both, and the numbers of the levels of one stride.
DETECTORS = {
    "RetinaNet of FCOS": (small_models.retinanet, fcos, "fpn", None),
    "FCOS of RetinaNet": (fcos, small_models.retinanet, "fpn", None),
    "RetinaNet of Faster R-CNN": (
        small_models.retinanet,
        small_models.faster_rcnn,
        "fpn",
        "0 with 1, 1 with 2, 2 with 3, 3 with 4",
    ),
    "Faster R-CNN of GFL": (
        small_models.faster_rcnn,
        gfl,
        "fpn",
        "1 with 0, 2 with 1, 3 with 2, 4 with 3",
    ),
    "SSD of GFL": (ssd, gfl, "maps", "0 with 0, 1 with 1, 2 with 2, 3 with 3"),
    "GFL of SSD": (gfl, ssd, "maps", "0 with 0, 1 with 1, 2 with 2, 3 with 3"),
}


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("make", [CWD, partial(PKD, adapter="conv")])
def test_detectors_of_two_kinds_teach_each_other_and_the_table_says_by_which_levels(name, make):
    student, teacher, place, numbers = DETECTORS[name]
    pair = Distillation(student(), teacher(), {"it": make([place])}, student_weight=0.0)
    images, targets = batches.detection_batch(2, 128)
    losses = pair.train()(images, targets)
    parts = [loss for part, loss in losses.items() if part.startswith("it/")]
    assert len(parts) == (5 if numbers is None else 4)
    losses.total.backward()
    trunk = next(p for n, p in pair.student.named_parameters() if "layer3" in n and p.dim() == 4)
    assert trunk.grad.isfinite().all()
    assert trunk.grad.abs().sum() > 0
    wiring = pair.check(images, targets)
    row = next(c for c in wiring.connections if c.student_tap == place)
    assert row.levels == ("-" if numbers is None else f"by stride: {numbers}")
    assert ("by stride" in str(wiring)) == (numbers is not None)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        (maps(8, 4), maps(8)),  # a list and a single map
        (maps(16, 8), maps(4, 2)),  # nothing in common
        (maps(1, 1), maps(2, 1)),  # two that fit one
    ],
)
def test_levels_that_do_not_pair_off_are_refused(student, teacher):
    with pytest.raises(ValueError, match=r"CWD at fpn: .* x .*do not pair off.*one by one"):
        CWD().setup(step_of({"fpn": student}, {"fpn": teacher}))


@pytest.mark.parametrize(
    ("method", "kept"),
    [
        (FGD, ["align", "student_context", "teacher_context"]),
        (MaskedGenerative, ["align", "generation"]),
        (CWD, ["adapters"]),
    ],
)
def test_parameters_have_the_names_that_checkpoints_have(method, kept):
    student, teacher = {"place": maps(8)[0]}, {"place": maps(8, channels=4)[0]}
    built = method(["place"])
    built.setup(step_of(student, teacher))
    names = dict.fromkeys(name.partition(".place.")[0] for name in built.state_dict())
    assert [*names] == kept


@pytest.mark.parametrize("method", METHODS)
def test_a_pair_that_does_not_fit_is_refused_with_places_and_shapes(method):
    vector = {"place": torch.zeros(2, 5)}
    with pytest.raises(ValueError, match=rf"{method.__name__} at place: .*student.*\(2, 5\)"):
        method(["place"]).setup(step_of(vector, vector))


@pytest.mark.parametrize("method", [CWD, partial(PKD, adapter="conv")])
def test_what_heads_give_is_only_compared_where_it_means_the_same(method):
    student, teacher = {"cls_maps": maps(8, 4, channels=6)}, {"cls_maps": maps(8, 4, channels=9)}
    method(["cls_maps"]).setup(step_of(student, student))
    AT(["cls_maps"]).setup(step_of(student, teacher))  # which compares positions alone
    with pytest.raises(ValueError, match=r"at cls_maps.0: the student's head gives 6 channels.* 9"):
        method(["cls_maps"]).setup(step_of(student, teacher))


def test_a_pair_is_told_by_the_places_of_both():
    (student,), (teacher,) = maps(8), maps(4)
    method = CWD({"C4": "layers.2", "C4.pre": "layers.2.act"})
    step = step_of({"C4": student, "C4.pre": student}, {"C4": student, "C4.pre": teacher})
    with pytest.raises(
        ValueError,
        match=r"CWD at C4.pre of the student and layers.2.act of the teacher: .*\(1, 3, 8, 8\).*"
        r"\(1, 3, 4, 4\)",
    ):
        method.setup(step)


@pytest.mark.parametrize(
    "method",
    [
        lambda: FitNet(["C4"]),
        lambda: MaskedGenerative(["C4"], masked="channels"),
        lambda: CWD(["C4"]),
    ],
)
def test_maps_that_differ_in_size_in_training_alone_are_refused_by_name(method):
    # One trunk rounds sizes up and the other down: at 128 px, of the dry pass, they are equal.
    student, teacher = (
        torchvision.models.get_model(name, num_classes=3) for name in ("resnet18", "vgg11_bn")
    )
    pair = Distillation(student, teacher, [method()])
    with pytest.raises(ValueError, match=r"at C4: .*, 7, 7\).*, 6, 6\).*equal stride"):
        pair(torch.rand(2, 3, 100, 100), torch.tensor([0, 1]))
