import pytest
import torch

from limbeck import Distillation
from limbeck.methods import PKD
from limbeck.methods.pkd import pearson_distance
from tests import batches, small_models
from tests.methods.modern import assert_gradient, assert_loss, case_of, step_of


def loss_of(case, **arguments):
    """The loss of one case's maps, with its gradient in the student's."""
    student = case["student"].requires_grad_()
    step = step_of({"map": student}, {"map": case["teacher"]})
    method = PKD(["map"], **arguments)
    method.setup(step)
    loss = method(step)["map"]
    loss.backward()
    return loss


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("same", {}),
        ("resize_student", {}),
        ("resize_student", {"resize": "student"}),
        ("resize_teacher", {"resize": "teacher"}),
    ],
)
def test_losses_and_gradients_are_the_authors(shared, name, arguments):
    case = case_of(shared, "pkd.npz", name)
    assert_loss(loss_of(case, **arguments), case["loss"])
    assert_gradient(case["student"].grad, case["grad_student"])


def test_levels_are_parts_of_their_own(shared):
    case = case_of(shared, "pkd.npz", "levels")
    student = [case[f"student.{level}"].requires_grad_() for level in range(4)]
    step = step_of({"fpn": student}, {"fpn": [case[f"teacher.{level}"] for level in range(4)]})
    method = PKD(["fpn"])
    method.setup(step)
    losses = method(step)
    assert method.weights_at(0) == {f"fpn.{level}": 10.0 for level in range(4)}
    for level in range(4):
        assert_loss(losses[f"fpn.{level}"], case[f"loss.{level}"])
    total = sum(losses.values())
    assert_loss(total, case["loss"])
    total.backward()
    for level in range(4):
        assert_gradient(student[level].grad, case[f"grad_student.{level}"])


def test_two_values_a_channel(shared):
    case = case_of(shared, "pkd.npz", "two_values")
    assert_loss(loss_of(case), case["loss"])


def test_one_value_a_channel_costs_nothing_where_the_original_is_nan(shared):
    case = case_of(shared, "pkd.npz", "single_value")
    assert case["loss_original"].isnan()
    assert loss_of(case) == 0
    assert (case["student"].grad == 0).all()


def test_a_constant_channel_has_no_huge_gradient(shared):
    case = case_of(shared, "pkd.npz", "constant_channel")
    assert_loss(loss_of(case), case["loss"])
    found, original = case["student"].grad, case["grad_student"]
    assert original[:, 4].abs().max() > 1e4
    assert found[:, 4].abs().max() < 100
    assert_gradient(found[:, :4], original[:, :4])


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_map_in_which_nothing_varies_has_no_gradient(value):
    student = torch.full((2, 3, 4, 5), value, requires_grad=True)
    loss = pearson_distance(student, torch.randn(2, 3, 4, 5))
    loss.backward()
    assert loss.isfinite()
    assert (student.grad == 0).all()


def test_a_dead_teacher_is_finite():
    student = torch.randn(2, 3, 4, 5, requires_grad=True)
    pearson_distance(student, torch.zeros(2, 3, 4, 5)).backward()
    assert student.grad.isfinite().all()


def test_it_is_one_minus_pearsons_correlation():
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    rows = [x.transpose(0, 1).flatten(1) for x in (student, teacher)]
    found = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*rows, strict=True)]
    expected = 39 / 40 * (1 - torch.stack(found).mean())
    torch.testing.assert_close(pearson_distance(student, teacher), expected)
    torch.testing.assert_close(pearson_distance(5 * teacher - 2, teacher), torch.tensor(0.0))


def test_detectors_of_two_kinds_by_stride_and_as_published():
    """Of a pyramid one level finer, the published pairs are P3 with P2, and so on."""
    student, teacher = small_models.retinanet(), small_models.faster_rcnn()
    published = {"P3": "P2", "P4": "P3", "P5": "P4", "P6": "P5"}
    methods = {"stride": PKD(["fpn"]), "published": PKD(published, weight=6.0)}
    pair = Distillation(student, teacher, methods).train()
    batch = batches.detection_batch(1, 128)
    losses = pair(*batch)
    levels = [f"stride/fpn.{level}" for level in range(4)]
    published_parts = [f"published/{level}" for level in published]
    assert [name for name in losses if not name.startswith("student/")] == levels + published_parts
    _, steps = pair.run(*batch)
    finer = pair.method("published").levels(steps["published"])
    assert all(2 * s.shape[2] == t.shape[2] for s, t in finer.values())
    assert losses.total.isfinite()


def test_one_small_image_on_all_levels_is_finite():
    """P7 of 128 px is one position: the original is NaN."""
    models = small_models.retinanet(), small_models.retinanet()
    pair = Distillation(*models, [PKD(["fpn"])]).train()
    losses = pair(*batches.detection_batch(1, 128))
    assert losses.raw["PKD/fpn.4"] == 0
    losses.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in pair.student.parameters())


def test_channels_that_differ_need_an_adapter():
    step = step_of({"map": torch.randn(2, 3, 4, 4)}, {"map": torch.randn(2, 5, 8, 8)})
    with pytest.raises(ValueError, match=r"PKD at map: .*\(2, 3, 4, 4\).*\(2, 5, 8, 8\).*adapter"):
        PKD(["map"]).setup(step)
    method = PKD(["map"], adapter="conv")
    method.setup(step)
    assert method.adapter_of("map").weight.shape == (5, 3, 1, 1)
    assert method(step)["map"] > 0


def test_choices_are_named():
    with pytest.raises(ValueError, match="resize='both', adapter='none': expected student or"):
        PKD(resize="both")
