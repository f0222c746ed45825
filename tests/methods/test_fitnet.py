import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation
from limbeck.methods import FitNet
from limbeck.methods.base import Side, Step
from limbeck.schedules import WarmUp
from tests import batches, small_models

LEVELS = range(5)


def step_of(student, teacher):
    """A step in which both models gave these features."""
    sides = [Side(nn.Identity(), features) for features in (student, teacher)]
    return Step([], None, *sides, number=0, world_size=1)


def set_up(method, student, teacher):
    method.setup(step_of(student, teacher))
    return method


@pytest.fixture
def golden(shared):
    return {k: torch.from_numpy(v) for k, v in np.load(shared / "golden/head/fitnet.npz").items()}


def test_heads_fitnet_baseline(golden):
    """Losses and gradients of the original code: five levels, five adapters."""
    student = [golden[f"in.student.{i}"].requires_grad_() for i in LEVELS]
    step = step_of({"fpn": student}, {"fpn": [golden[f"in.teacher.{i}"] for i in LEVELS]})
    method = FitNet(["fpn"])
    method.setup(step)
    original = {
        f"fpn_{i}.{name}": golden[f"param._adapts.0.{i}.{name}"]
        for i in LEVELS
        for name in ("weight", "bias")
    }
    method.adapters.load_state_dict(original)
    losses = method(step)
    for i in LEVELS:
        torch.testing.assert_close(losses[f"fpn.{i}"].detach(), golden[f"loss.{i}"])
    total = sum(losses.values())
    torch.testing.assert_close(total.detach(), golden["loss_total"])
    total.backward()
    for i in LEVELS:
        torch.testing.assert_close(student[i].grad, golden[f"grad.student.{i}"])
        for name, parameter in method.adapters[f"fpn_{i}"].named_parameters():
            torch.testing.assert_close(parameter.grad, golden[f"grad._adapts.0.{i}.{name}"])


def test_lists_and_dicts_of_levels_alike():
    maps = {"0": torch.randn(2, 3, 4, 4), "pool": torch.randn(2, 3, 2, 2)}
    teacher = {"0": torch.randn(2, 5, 4, 4), "pool": torch.randn(2, 5, 2, 2)}
    steps = [
        step_of({"f": m}, {"f": t})
        for m, t in ((maps, teacher), (list(maps.values()), tuple(teacher.values())))
    ]
    method = FitNet(["f"])
    method.setup(steps[0])
    assert method(steps[0]) == method(steps[1])
    assert list(method(steps[0])) == ["f.0", "f.1"]
    assert list(method.weights) == ["f.0", "f.1"]


def test_places_that_go_by_different_names():
    student, teacher = {"C4": torch.randn(2, 3, 4, 4)}, {"C4": torch.randn(2, 5, 4, 4)}
    method = FitNet({"C4": "layers.2"})
    assert (method.student_taps, method.teacher_taps) == ({"C4": "C4"}, {"C4": "layers.2"})
    set_up(method, student, teacher)
    loss = method(step_of(student, teacher))["C4"]
    assert loss == (method.adapters["C4"](student["C4"]) - teacher["C4"]).square().mean()


def test_pair_of_detectors_by_levels_and_by_paths():
    student, teacher = small_models.retinanet(), small_models.retinanet(Bottleneck)
    places = {"P3": "backbone/0", "backbone/p7": "P7", "C5": "backbone.body.layer4"}
    losses = Distillation(student, teacher, [FitNet(places)])(*batches.detection_batch())
    assert list(losses)[2:] == ["FitNet/P3", "FitNet/backbone/p7", "FitNet/C5"]
    assert losses.total.isfinite()


def test_normalised_loss_of_predicting_the_mean_is_one():
    teacher = {"C4": torch.randn(4, 5, 8, 8) * 7 + 3}
    method = set_up(FitNet(["C4"], normalise=True), {"C4": torch.randn(4, 3, 8, 8)}, teacher)
    nn.init.zeros_(method.adapters["C4"].weight)
    nn.init.constant_(method.adapters["C4"].bias, teacher["C4"].mean())
    step = step_of({"C4": torch.randn(4, 3, 8, 8)}, teacher)
    assert method(step)["C4"].item() == pytest.approx(1.0, rel=2e-3)


def test_normalised_loss_does_not_depend_on_the_teachers_scale():
    student, teacher = torch.randn(4, 5, 8, 8), torch.randn(4, 5, 8, 8)
    method = FitNet(["C4"], adapter="none", normalise=True)
    losses = []
    for scale in (1.0, 1000.0):
        pair = {"C4": student * scale}, {"C4": teacher * scale}
        losses.append(set_up(method, *pair)(step_of(*pair))["C4"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_linear_adapter_for_vectors():
    student, teacher = {"v": torch.randn(2, 3)}, {"v": torch.randn(2, 5)}
    method = set_up(FitNet(["v"], adapter="linear"), student, teacher)
    expected = (method.adapters["v"](student["v"]) - teacher["v"]).square().mean()
    assert method(step_of(student, teacher))["v"] == expected


def test_no_adapter_is_the_plain_difference():
    student, teacher = {"v": torch.randn(2, 3)}, {"v": torch.randn(2, 3)}
    method = set_up(FitNet(["v"], adapter="none"), student, teacher)
    assert list(method.parameters()) == []
    assert method(step_of(student, teacher))["v"] == (student["v"] - teacher["v"]).square().mean()


def test_schedule_weighs_every_level():
    maps = {"f": [torch.randn(2, 3, 4, 4)] * 2}
    method = set_up(FitNet(["f"], weight=WarmUp(2.0, 4)), maps, maps)
    assert method.weights_at(1) == {"f.0": 0.5, "f.1": 0.5}


def test_half_precision_features_are_compared_in_float32():
    student, teacher = torch.randn(2, 3).bfloat16(), torch.randn(2, 3).bfloat16()
    method = set_up(FitNet(["v"], adapter="none"), {"v": student}, {"v": teacher})
    loss = method(step_of({"v": student}, {"v": teacher}))["v"]
    assert loss.dtype is torch.float32
    assert loss == (student.float() - teacher.float()).square().mean()


@pytest.mark.parametrize(
    ("adapter", "student", "teacher", "says"),
    [
        (
            "conv",
            (1, 3, 4, 4),
            (1, 5, 2, 2),
            r"at C4:.*\(1, 3, 4, 4\).*\(1, 5, 2, 2\).*equal stride",
        ),
        ("conv", (1, 3), (1, 5), r"at C4:.*\(1, 3\).*linear adapter"),
        ("linear", (1, 3, 4, 4), (1, 5, 4, 4), r"at C4:.*\(1, 3, 4, 4\).*\(1, 5, 4, 4\)"),
        (
            "none",
            (1, 3, 4, 4),
            (1, 5, 4, 4),
            r"at C4:.*\(1, 3, 4, 4\).*\(1, 5, 4, 4\).*need an adapter",
        ),
    ],
)
def test_mismatches_are_named(adapter, student, teacher, says):
    with pytest.raises(ValueError, match=says):
        set_up(
            FitNet(["C4"], adapter=adapter),
            {"C4": torch.zeros(student)},
            {"C4": torch.zeros(teacher)},
        )


def test_different_numbers_of_levels_are_named():
    with pytest.raises(ValueError, match=r"student has 5 features \(fpn.0, .*teacher 1 \(fpn\)"):
        Distillation(small_models.retinanet(), small_models.retinanet(), [FitNet({"fpn": "P3"})])


def test_without_a_teacher():
    with pytest.raises(ValueError, match="needs a teacher"):
        Distillation(small_models.resnet(), None, [FitNet(["C4"])])


def test_a_dead_teacher_feature_makes_no_nan():
    """A constant map has no variance to divide by."""
    dead = {"C4": torch.zeros(2, 3, 4, 4)}
    method = set_up(FitNet(["C4"], adapter="none", normalise=True), dead, dead)
    student = torch.randn(2, 3, 4, 4)
    assert method(step_of({"C4": student}, dead))["C4"].isfinite()
    assert method(step_of(dead, dead))["C4"] == 0
