import pytest
import torch

from limbeck import Distillation, methods
from limbeck.methods.logits import standardised_logits
from tests import small_models
from tests.methods.modern import case_of

METHODS = [methods.DIST, methods.DKD, methods.KD]


@pytest.mark.parametrize("method", METHODS)
def test_what_does_not_fit_is_refused_by_every_method_on_logits(method):
    name = method.__name__
    other = small_models.resnet(classes=7)
    with pytest.raises(
        ValueError, match=rf"{name} compares logits.*\(1, 4\).*\(1, 7\).*{name} out"
    ):
        Distillation(small_models.resnet(), other, [method()])
    detectors = small_models.retinanet(), small_models.retinanet()
    with pytest.raises(ValueError, match=rf"{name} compares the logits.*RetinaNet, gives a list\."):
        Distillation(*detectors, [method()])
    with pytest.raises(ValueError, match="temperature is 0"):
        method(temperature=0)
    student, teacher = small_models.resnet(), small_models.resnet()
    student.classes, teacher.classes = ["a", "b", "c", "d"], ["a", "c", "b", "d"]
    with pytest.raises(ValueError, match=f"{name}: the teacher's classes.*class 2"):
        Distillation(student, teacher, [method()])
    Distillation(student, teacher, [method(other_classes=True)])


@pytest.mark.parametrize("name", ["cifar", "t3"])
def test_standardised_logits_are_the_authors(shared, name):
    case = case_of(shared, "logit_standardization.npz", name)
    for side in ("student", "teacher"):
        torch.testing.assert_close(standardised_logits(case[side]), case[f"standardised_{side}"])


def test_the_unit_of_the_logits_does_not_matter():
    logits = torch.randn(5, 7)
    torch.testing.assert_close(standardised_logits(3 * logits + 2), standardised_logits(logits))


@pytest.mark.parametrize("value", [0.0, 0.1, -37.3, 2.0e4])
def test_equal_logits_have_no_gradient(value):
    logits = torch.full((2, 1000), value, requires_grad=True)
    found = standardised_logits(logits)
    assert (found == 0).all()
    (found * torch.randn(2, 1000)).sum().backward()
    assert (logits.grad == 0).all()


def test_half_precision_logits_are_standardised_in_float32():
    logits = torch.randn(5, 7).bfloat16()
    assert standardised_logits(logits).dtype is torch.float32
    assert torch.equal(standardised_logits(logits), standardised_logits(logits.float()))


@pytest.mark.parametrize(
    ("method", "classes"),
    [
        (methods.KD(), 1),
        (methods.DIST(), 1),
        (methods.DKD(), 1),
        (methods.KD(standardise=True), 2),
        (methods.DKD(standardise=True), 2),
    ],
)
def test_too_few_classes_to_learn_from_are_refused(method, classes):
    pair = [small_models.resnet(classes=classes) for _ in range(2)]
    with pytest.raises(ValueError, match=f"{classes + 1} classes or more, and the logits"):
        Distillation(*pair, [method])
