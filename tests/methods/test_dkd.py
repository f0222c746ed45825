import pytest
import torch

from limbeck import Distillation
from limbeck.methods import DKD
from limbeck.methods.dkd import decoupled
from limbeck.methods.kd import soft_divergence
from tests import batches, small_models
from tests.methods.modern import assert_gradient, assert_loss, case_of, step_of


def losses_of(method, case):
    """The parts, and the total by the method's weights with its gradient in the student."""
    student = case["student"].requires_grad_()
    parts = method(step_of({"logits": student}, {"logits": case["teacher"]}, case["labels"]))
    weights = method.weights_at(0)
    total = sum(weights[part] * loss for part, loss in parts.items())
    total.backward()
    return parts, total, student.grad


@pytest.mark.parametrize("name", ["cifar", "imagenet", "detector", "confident"])
def test_losses_and_gradients_are_the_authors(shared, name):
    """In `confident` the logits lie 120 to 140 apart, where the original in float32 is NaN."""
    case = case_of(shared, "dkd.npz", name)
    alpha, beta, temperature = (case[key].item() for key in ("alpha", "beta", "temperature"))
    parts, total, gradient = losses_of(DKD(alpha, beta, temperature), case)
    assert_loss(parts["tckd"], case["loss_tckd"])
    assert_loss(parts["nckd"], case["loss_nckd"])
    assert_loss(total, case["loss_total"])
    assert_gradient(gradient, case["grad_student"])
    assert ("loss_original_float32" in case) == (name == "confident")


def test_the_mean_over_the_batch_is_the_authors_and_no_sum(shared):
    """The published configuration of another library sums where it says that it averages."""
    case = case_of(shared, "dkd.npz", "cifar")
    _, total, _ = losses_of(DKD(), case)
    assert_loss(total, case["loss_mmrazor_batchmean"])
    assert case["loss_mmrazor_mean"] == pytest.approx(8 * total.item(), rel=1e-4)


@pytest.mark.parametrize("name", ["cifar", "t3"])
def test_standardised_losses_and_gradients_are_the_authors(shared, name):
    case = case_of(shared, "logit_standardization.npz", name)
    alpha, beta, temperature = (
        case[key].item() for key in ("dkd_alpha", "dkd_beta", "temperature")
    )
    _, total, gradient = losses_of(DKD(alpha, beta, temperature, standardise=True), case)
    assert_loss(total, case["loss_dkd"])
    assert_gradient(gradient, case["grad_student_dkd"])


@pytest.mark.parametrize("gap", [150.0, 1e4])
def test_teachers_and_students_that_are_sure_have_finite_gradients(gap):
    student = torch.tensor([[gap, 0.0, -gap], [0.0, gap, 0.0]], requires_grad=True)
    teacher = torch.tensor([[0.0, gap, 1.0], [gap, 0.0, -gap]])
    losses = decoupled(student, teacher, torch.tensor([0, 2]), 1.0)
    sum(losses).backward()
    assert all(loss.isfinite() and loss > 0 for loss in losses)
    assert student.grad.isfinite().all()


def test_together_they_are_the_divergence_of_kd():
    """KD = TCKD + (1 - p_y) NCKD, for each image."""
    student, teacher = torch.randn(1, 7) * 3, torch.randn(1, 7) * 3
    tckd, nckd = decoupled(student, teacher, torch.tensor([4]), 2.0)
    rest = 1 - (teacher / 2.0).softmax(1)[0, 4]
    torch.testing.assert_close(tckd + rest * nckd, soft_divergence(student, teacher, 2.0))


def test_two_classes_leave_no_other_to_compare():
    tckd, nckd = decoupled(torch.randn(3, 2), torch.randn(3, 2), torch.tensor([0, 1, 1]), 1.0)
    assert tckd > 0
    assert nckd.item() == pytest.approx(0, abs=1e-6)


def test_it_needs_labels():
    pair = Distillation(
        small_models.resnet(), small_models.resnet(), [DKD()], student_loss=lambda *_: {}
    )
    with pytest.raises(TypeError, match=r"DKD needs labels.*NoneType"):
        pair.eval()(batches.pictures(), None)
