from collections import OrderedDict

import pytest
import torch
from torch import nn

from limbeck import Distillation
from limbeck.methods import KD
from limbeck.methods.kd import soft_divergence
from tests import batches, small_models


def published(student, teacher, temperature):
    """T^2 sum_k p_k (log p_k - log q_k), mean over images, image by image in float64."""
    total = 0.0
    for z, v in zip(student.double(), teacher.double(), strict=True):
        q = (z / temperature).exp() / (z / temperature).exp().sum()
        p = (v / temperature).exp() / (v / temperature).exp().sum()
        total += sum(p[k] * (p[k].log() - q[k].log()) for k in range(len(p))).item()
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_papers_formula(temperature):
    student, teacher = torch.randn(5, 7) * 3, torch.randn(5, 7) * 3
    expected = published(student, teacher, temperature)
    assert soft_divergence(student, teacher, temperature).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_equal_logits_and_a_shift_cost_nothing():
    logits = torch.randn(5, 7)
    assert soft_divergence(logits, logits, 4.0).item() == pytest.approx(0, abs=1e-6)
    assert soft_divergence(logits + 3, logits, 4.0).item() == pytest.approx(0, abs=1e-5)


def test_gradient_is_that_of_the_soft_cross_entropy():
    """Section 2: dC/dz = T (q - p), after the factor T^2, over the batch."""
    student, teacher = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    soft_divergence(student, teacher, 3.0).backward()
    expected = 3.0 * ((student / 3).softmax(1) - (teacher / 3).softmax(1)) / 5
    assert torch.allclose(student.grad, expected, atol=1e-6)


def test_gradient_keeps_its_size_at_high_temperatures():
    """At high T it tends to (z - v) / K, both centred: section 2, equation 4."""
    student, teacher = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    norms = []
    for temperature in (100.0, 200.0):
        (gradient,) = torch.autograd.grad(soft_divergence(student, teacher, temperature), student)
        norms.append(gradient.norm().item())
    centred = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    assert norms[0] == pytest.approx(norms[1], rel=0.02)
    assert norms[0] == pytest.approx((centred / 7 / 5).norm().item(), rel=0.05)


def test_half_precision_logits_are_compared_in_float32():
    student, teacher = torch.randn(5, 7).bfloat16(), torch.randn(5, 7).bfloat16()
    loss = soft_divergence(student, teacher, 2.0)
    assert loss.dtype is torch.float32
    assert loss == soft_divergence(student.float(), teacher.float(), 2.0)


def test_weighted_average_with_the_labels_loss():
    """The paper's alpha: weight alpha here, 1 - alpha on the student's own loss."""
    pair = Distillation(
        small_models.resnet(), small_models.resnet(), [KD(4.0, weight=0.9)], student_weight=0.1
    )
    losses = pair.eval()(batches.pictures(), batches.labels())
    expected = 0.1 * losses.raw["student/cross_entropy"] + 0.9 * losses.raw["KD/logits"]
    assert losses.total.item() == pytest.approx(expected.item(), rel=1e-6)
    logits = [model(batches.pictures()) for model in (pair.student, pair.teacher)]
    assert losses.raw["KD/logits"].item() == pytest.approx(published(*logits, 4.0), rel=1e-4)


def test_logits_anywhere():
    pair = Distillation(small_models.resnet(), small_models.resnet(), [KD(logits="fc")]).eval()
    named = Distillation(pair.student, pair.teacher, [KD(logits="logits")]).eval()
    default = Distillation(pair.student, pair.teacher, [KD()]).eval()
    batch = batches.pictures(), batches.labels()
    assert pair(*batch).total == named(*batch).total == default(*batch).total


class OfHuggingFace(nn.Module):
    """Gives a mapping that holds the logits, as the classifiers of Hugging Face do."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, pixel_values):
        return OrderedDict(logits=self.classifier(pixel_values))


def test_logits_within_a_mapping_are_found_on_either_side():
    plain = small_models.resnet(), small_models.resnet()
    batch = batches.pictures(), batches.labels()
    expected = Distillation(*plain, [KD()]).eval()(*batch)["KD/logits"]
    for ours, theirs in ((True, False), (False, True), (True, True)):
        student = OfHuggingFace(plain[0]) if ours else plain[0]
        teacher = OfHuggingFace(plain[1]) if theirs else plain[1]
        losses = Distillation(student, teacher, [KD()]).eval()(*batch)
        assert losses["KD/logits"] == expected
        assert list(losses) == ["student/cross_entropy", "KD/logits"]


def test_pairs_that_do_not_fit_are_refused():
    other = small_models.resnet(classes=7)
    with pytest.raises(
        ValueError, match=r"'KD': KD compares logits.*\(1, 4\).*\(1, 7\).*same classes"
    ):
        Distillation(small_models.resnet(), other, [KD()])
    with pytest.raises(
        ValueError, match=r"logits \(B, K\).*the student, a RetinaNet, gives a list\."
    ):
        Distillation(small_models.retinanet(), small_models.retinanet(), [KD()])
    with pytest.raises(ValueError, match=r"a NarrowResNet, gives a Tensor \(1, 64, 8, 8\)"):
        Distillation(small_models.resnet(), small_models.resnet(), [KD(logits="C4")])


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_temperature_is_above_zero(temperature):
    with pytest.raises(ValueError, match=f"temperature is {temperature}"):
        KD(temperature)


def test_teachers_of_other_classes_are_refused_unless_told_otherwise():
    """Of the same number, they are other classes or in another order."""
    student, teacher = small_models.resnet(), small_models.resnet()
    teacher.classes = ("a", "b", "c", "d")
    Distillation(student, teacher, [KD()])  # the student has no names to compare
    student.classes = ["a", "c", "b", "d"]
    with pytest.raises(
        ValueError, match=r"'KD': KD: .*class 2 is 'b' there and 'c' here.*other_classes"
    ):
        Distillation(student, teacher, [KD()])
    Distillation(student, teacher, [KD(other_classes=True)])
    student.classes = list(teacher.classes)
    Distillation(student, teacher, [KD()])
