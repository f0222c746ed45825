"""KD on standardised logits against the authors' code."""

import pytest
import torch

from limbeck.methods import KD
from tests.methods.modern import assert_gradient, assert_loss, case_of, step_of

FILE = "logit_standardization.npz"


@pytest.mark.parametrize("name", ["cifar", "t3"])
def test_standardised_and_plain_losses_are_the_authors(shared, name):
    case = case_of(shared, FILE, name)
    student = case["student"].requires_grad_()
    step = step_of({"logits": student}, {"logits": case["teacher"]})
    temperature = case["temperature"].item()
    assert_loss(KD(temperature)(step)["logits"], case["loss_kd_plain"])
    loss = KD(temperature, standardise=True)(step)["logits"]
    assert_loss(loss, case["loss_kd"])
    loss.backward()
    assert_gradient(student.grad, case["grad_student_kd"])


def test_a_constant_row_has_no_gradient_where_the_original_has_a_huge_one(shared):
    case = case_of(shared, FILE, "constant_row")
    student = case["student"].requires_grad_()
    step = step_of({"logits": student}, {"logits": case["teacher"]})
    loss = KD(case["temperature"].item(), standardise=True)(step)["logits"]
    assert_loss(loss, case["loss_kd"])
    loss.backward()
    original = case["grad_student_original"]
    assert original[1].abs().max() > 1e4
    assert (student.grad[1] == 0).all()
    assert_gradient(student.grad[::2], original[::2])


def test_without_standardisation_nothing_has_changed():
    step = step_of({"logits": torch.randn(3, 5)}, {"logits": torch.randn(3, 5)})
    assert KD()(step) == KD(standardise=False)(step) != KD(standardise=True)(step)
