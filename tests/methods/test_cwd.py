import pytest
import torch

from limbeck import Distillation
from limbeck.methods import CWD
from limbeck.methods.cwd import channel_divergence
from tests import batches, small_models
from tests.methods.modern import assert_gradient, assert_loss, case_of, step_of


def set_up(case):
    """The method for one case, and its step."""
    student = case["student"].requires_grad_()
    step = step_of({"map": student}, {"map": case["teacher"]})
    method = CWD(["map"], temperature=case["tau"].item())
    method.setup(step)
    return method, step


@pytest.mark.parametrize("name", ["t1", "t4", "peaked"])
def test_losses_and_gradients_are_the_authors(shared, name):
    """In `peaked` a value lies 150 above its channel's others: the authors' float32 is inf."""
    case = case_of(shared, "cwd.npz", name)
    method, step = set_up(case)
    assert not list(method.parameters())
    loss = method(step)["map"]
    assert_loss(loss, case["loss"])
    loss.backward()
    assert_gradient(case["student"].grad, case["grad_student"])
    assert name != "peaked" or case["loss_authors_float32"].isinf()


@pytest.mark.parametrize("name", ["t1", "t4"])
def test_the_form_without_the_teachers_entropy_differs_by_a_constant(shared, name):
    case = case_of(shared, "cwd.npz", name)
    method, step = set_up(case)
    tau = case["tau"].item()
    log_p = (case["teacher"].double() / tau).flatten(2).log_softmax(2)
    entropy = -(tau**2) * (log_p.exp() * log_p).sum(2).mean()
    assert_loss(method(step)["map"], case["loss_cross_entropy_form"] - entropy)


def test_other_channels_are_brought_to_the_teachers(shared):
    """The original's adapter has a bias, which shifts a whole channel and changes nothing."""
    case = case_of(shared, "cwd.npz", "align")
    method, step = set_up(case)
    adapter = method.adapter_of("map")
    assert adapter.bias is None
    with torch.no_grad():
        adapter.weight.copy_(case["param.align.weight"])
    loss = method(step)["map"]
    assert_loss(loss, case["loss"])
    loss.backward()
    assert_gradient(case["student"].grad, case["grad_student"])
    assert_gradient(adapter.weight.grad, case["grad.align.weight"])


def test_a_shift_of_a_channel_costs_nothing_and_a_single_position_neither():
    teacher = torch.randn(2, 3, 4, 5)
    shifted = teacher + torch.randn(1, 3, 1, 1)
    assert channel_divergence(shifted, teacher, 1.0).item() == pytest.approx(0, abs=1e-6)
    point = torch.randn(2, 3, 1, 1, requires_grad=True)
    loss = channel_divergence(point, torch.randn(2, 3, 1, 1), 1.0)
    loss.backward()
    assert loss == 0
    assert (point.grad == 0).all()


def test_on_the_class_maps_of_a_dense_head():
    place = "cls_maps"
    pair = Distillation(small_models.retinanet(), small_models.retinanet(), [CWD([place])])
    losses = pair.train()(*batches.detection_batch(2, 128))
    assert [name for name in losses if name.startswith("CWD/")] == [
        f"CWD/{place}.{level}" for level in range(5)
    ]
    losses.total.backward()


def test_the_published_defaults():
    method = CWD()
    assert (list(method.student_taps), method.weight, method.temperature) == (["fpn"], 10.0, 1.0)
    with pytest.raises(ValueError, match="temperature is 0"):
        CWD(temperature=0)


def test_sizes_that_differ_in_training_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\).*\(1, 3, 5, 4\) differ in height"):
        channel_divergence(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 5, 4), 1.0)
