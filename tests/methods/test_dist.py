import pytest
import torch

from limbeck.methods import DIST
from limbeck.methods.dist import correlation
from tests.methods.modern import assert_gradient, assert_loss, case_of, step_of


def losses_of(case):
    """The parts, and the gradient of their unweighted sum in the student."""
    student = case["student"].requires_grad_()
    method = DIST(temperature=case["tau"].item())
    parts = method(step_of({"logits": student}, {"logits": case["teacher"]}))
    sum(parts.values()).backward()
    return parts, student.grad


@pytest.mark.parametrize("name", ["t1", "t4"])
def test_losses_and_gradients_are_the_authors(shared, name):
    case = case_of(shared, "dist.npz", name)
    parts, gradient = losses_of(case)
    assert_loss(parts["inter"], case["loss_inter"])
    assert_loss(parts["intra"], case["loss_intra"])
    assert_loss(sum(parts.values()), case["loss_total"])
    assert_gradient(gradient, case["grad_student"])


def test_constant_rows_have_no_huge_gradient(shared):
    case = case_of(shared, "dist.npz", "degenerate")
    parts, gradient = losses_of(case)
    assert_loss(sum(parts.values()), case["loss_total"])
    original = case["grad_student_original"]
    assert original[1].abs().max() > 1e4
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1
    assert_gradient(gradient[[0, 2, 3]], original[[0, 2, 3]])


def test_one_image_has_no_relation_to_others(shared):
    """The original's loss is 1 there: a constant, which teaches nothing."""
    case = case_of(shared, "dist.npz", "one_image")
    parts, gradient = losses_of(case)
    assert_loss(parts["inter"], case["loss_inter"])
    assert case["loss_intra_original"] == 1
    assert parts["intra"] == 0
    assert parts["intra"].requires_grad
    assert_gradient(gradient, case["grad_student_original"])


def test_the_published_weights():
    assert DIST().weights_at(0) == {"inter": 2.0, "intra": 2.0}


def test_correlations_are_pearsons():
    a, b = torch.rand(4, 9), torch.rand(4, 9)
    expected = [torch.corrcoef(torch.stack(rows))[0, 1] for rows in zip(a, b, strict=True)]
    torch.testing.assert_close(correlation(a, b), torch.stack(expected))
    torch.testing.assert_close(correlation(a, 3 * a + 2), torch.ones(4))
    torch.testing.assert_close(correlation(a, -a), -torch.ones(4))


def test_a_student_that_knows_nothing_yet_gets_finite_gradients():
    student = torch.zeros(8, 1000, requires_grad=True)
    parts = DIST()(step_of({"logits": student}, {"logits": torch.randn(8, 1000)}))
    sum(parts.values()).backward()
    assert all(part == 1 for part in parts.values())
    assert (student.grad == 0).all()


def test_rows_of_a_picture_multiply_to_their_correlation():
    torch.manual_seed(2)
    student, teacher = torch.randn(2, 5, 7)
    shown = DIST().picture(step_of({"logits": student}, {"logits": teacher}))
    ours, theirs = (shown.matrices[side].values for side in ("student", "teacher"))
    expected = correlation(student.softmax(dim=1), teacher.softmax(dim=1))
    torch.testing.assert_close((ours * theirs).sum(dim=1), expected)
