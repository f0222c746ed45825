import math

import pytest
import torch
import torch.nn.functional as F

from limbeck import Distillation
from limbeck.methods import FeatureCosine
from limbeck.methods.feature_cosine import cosine_distance
from tests import small_models
from tests.methods.modern import step_of


def plain_loop(student, teacher):
    """The loss, image by image and position by position."""
    count, _, height, width = student.shape
    total = 0.0
    for image in range(count):
        for row in range(height):
            for column in range(width):
                s, t = (m[image, :, row, column].tolist() for m in (student, teacher))
                product = sum(a * b for a, b in zip(s, t, strict=True))
                norms = math.sqrt(sum(a * a for a in s)) * math.sqrt(sum(b * b for b in t))
                total += 1 - product / norms
    return total / (count * height * width)


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("resize", ["teacher", "student"])
def test_the_loss_is_that_of_a_plain_loop(resize):
    student, teacher = drawn(2, 3, 4, 6).requires_grad_(), drawn(2, 5, 2, 3)
    step = step_of({"map": student}, {"map": teacher})
    method = FeatureCosine(["map"], resize=resize)
    method.setup(step)
    adapter = method.adapter_of("map")
    assert (adapter.in_channels, adapter.out_channels) == (3, 5)
    projected = adapter(student).detach()
    size = (4, 6) if resize == "teacher" else (2, 3)
    maps = [F.interpolate(m, size, mode="bilinear") for m in (projected, teacher)]
    loss = method(step)["map"]
    assert loss.item() == pytest.approx(plain_loop(*maps), rel=1e-6)
    loss.backward()
    assert student.grad.abs().sum() > 0


def test_the_gradient_is_that_of_the_library():
    student, teacher = drawn(2, 4, 3, 3).requires_grad_(), drawn(2, 4, 3, 3)
    (found,) = torch.autograd.grad(cosine_distance(student, teacher), student)
    by_library = 1 - F.cosine_similarity(student, teacher, dim=1).mean()
    (expected,) = torch.autograd.grad(by_library, student)
    assert torch.allclose(found, expected, atol=1e-7)


def test_only_directions_count():
    teacher = drawn(1, 4, 2, 2)
    assert cosine_distance(3 * teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    assert cosine_distance(-teacher, teacher).item() == pytest.approx(2)


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_vector_without_a_direction_costs_one_and_pulls_nowhere(side):
    student, teacher = drawn(1, 4, 1, 2), drawn(1, 4, 1, 2)
    {"student": student, "teacher": teacher}[side][..., 0] = 0
    student.requires_grad_()
    loss = cosine_distance(student, teacher)
    alone = cosine_distance(student[..., 1:], teacher[..., 1:])
    assert loss.item() == pytest.approx((1 + alone.item()) / 2)
    (gradient,) = torch.autograd.grad(loss, student)
    assert not gradient[..., 0].any()
    assert gradient.isfinite().all()


def test_unequal_channels_need_a_projection():
    methods = {"it": FeatureCosine(["P4"], adapter="none")}
    with pytest.raises(ValueError, match=r"FeatureCosine at P4.*\(1, 32.*\(1, 48.*set adapter"):
        Distillation(small_models.retinanet(), small_models.retinanet(channels=48), methods)
    with pytest.raises(ValueError, match=r"adapter='linear'.*expected conv or none"):
        FeatureCosine(["P4"], adapter="linear")
