from dataclasses import replace

import pytest
import torch

from limbeck import Distillation
from limbeck.methods import AT
from limbeck.methods.at import attention
from tests import batches, small_models
from tests.methods.modern import assert_gradient, assert_loss, case_of, step_of


def losses_of(student, teacher):
    """The losses of maps at places of these names."""
    step = step_of(student, teacher)
    method = AT([*student])
    method.setup(step)
    assert not list(method.parameters())
    return method(step)


@pytest.mark.parametrize("name", ["a", "b"])
def test_losses_gradients_and_attention_are_the_authors(shared, name):
    case = case_of(shared, "at.npz", name)
    student, teacher = case["student"].requires_grad_(), case["teacher"]
    torch.testing.assert_close(attention(student).detach(), case["attention_student"])
    torch.testing.assert_close(attention(teacher), case["attention_teacher"])
    loss = losses_of({"map": student}, {"map": teacher})["map"]
    assert_loss(loss, case["loss"])
    loss.backward()
    assert_gradient(student.grad, case["grad_student"])


def test_the_larger_of_two_maps_is_averaged(shared):
    case = case_of(shared, "at.npz", "resized")
    student = {str(i): case[f"student.{i}"].requires_grad_() for i in range(2)}
    losses = losses_of(student, {str(i): case[f"teacher.{i}"] for i in range(2)})
    for place, loss in losses.items():
        assert_loss(loss, case[f"loss.{place}"])
    total = sum(losses.values())
    assert_loss(total, case["loss"])
    total.backward()
    for place, feature in student.items():
        assert_gradient(feature.grad, case[f"grad_student.{place}"])


def test_a_dead_image_has_no_gradient(shared):
    case = case_of(shared, "at.npz", "dead")
    student = case["student"].requires_grad_()
    loss = losses_of({"map": student}, {"map": case["teacher"]})["map"]
    assert_loss(loss, case["loss"])
    loss.backward()
    assert (student.grad[1] == 0).all()
    assert_gradient(student.grad, case["grad_student"])


def test_each_side_is_averaged_where_it_is_the_longer():
    """The original looks at heights alone."""
    student, teacher = torch.randn(2, 3, 8, 2), torch.randn(2, 4, 4, 6)
    found = losses_of({"map": student}, {"map": teacher})["map"]
    q_s = attention(student.reshape(2, 3, 4, 2, 2).mean(3))
    q_t = attention(teacher.reshape(2, 4, 4, 2, 3).mean(4))
    torch.testing.assert_close(found, (q_s - q_t).square().mean())


def test_the_unit_of_a_map_and_a_permutation_of_its_channels_do_not_matter():
    feature = torch.randn(2, 5, 4, 4)
    torch.testing.assert_close(attention(3 * feature[:, [4, 0, 1, 3, 2]]), attention(feature))


def test_the_published_defaults_on_a_pair_of_classifiers():
    pair = Distillation(small_models.resnet(), small_models.resnet(), [AT()])
    losses = pair(batches.pictures(), batches.labels())
    assert {name: losses.weights[name] for name in losses if name.startswith("AT/")} == {
        f"AT/C{level}": 1000.0 for level in range(2, 6)
    }
    losses.total.backward()


def test_a_picture_is_strongest_where_a_map_is_most_active():
    teacher, student = torch.zeros(2, 1, 8, 4, 4)
    teacher[0, :, 1, 2] = 3.0
    teacher[0, :, 3, 3] = 1.5
    step = replace(step_of({"C4": student[:, :2]}, {"C4": teacher}), images=torch.zeros(1, 3, 8, 8))
    method = AT(["C4"])
    method.setup(step)
    (shown,) = method.picture(step).columns["C4, teacher"]
    expected = torch.zeros(4, 4)
    expected[1, 2], expected[3, 3] = 1.0, 0.25
    assert torch.equal(shown[::2, ::2], expected)
    assert not method.picture(step).columns["C4, student"][0].any()
