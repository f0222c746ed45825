import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation
from limbeck.methods import KD, FitNet
from tests import batches, observation, small_models


def test_plain_student_is_not_asked_for_a_dry_pass():
    """A student of vectors takes no image of 128 px, and nothing needs one."""
    pair = Distillation(nn.Linear(5, small_models.CLASSES))
    assert list(pair(torch.rand(2, 5), batches.labels())) == ["student/cross_entropy"]


def test_construction_changes_nothing_in_the_models():
    student, teacher = small_models.resnet().train(), small_models.resnet(Bottleneck)
    student.bn1.eval()
    before = observation.snapshot(student), observation.snapshot(teacher)
    Distillation(student, teacher, [FitNet(["C4"])])
    assert observation.same(before[0], observation.snapshot(student))
    assert observation.same(before[1], observation.snapshot(teacher))
    assert not student.bn1.training
    assert student.layer1.training
    assert all(p.grad is None for p in student.parameters())


def test_mismatch_names_the_method_and_both_shapes():
    methods = {"hint": FitNet({"C4": "C3"})}
    with pytest.raises(
        ValueError, match=r"method 'hint'.*C4.*\(1, 256, 8, 8\).*\(1, 512, 16, 16\)"
    ):
        Distillation(small_models.resnet(), small_models.resnet(Bottleneck), methods)


class Fixed(nn.Module):
    """Takes 8 px only."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3 * 8 * 8, small_models.CLASSES)

    def forward(self, x):
        return self.linear(x.flatten(1))


def test_models_that_refuse_the_tiny_batch_take_an_example():
    with pytest.raises(RuntimeError) as raised:
        Distillation(Fixed(), Fixed(), [KD()])
    assert "Give Distillation an example" in raised.value.__notes__[0]
    pair = Distillation(Fixed(), Fixed(), [KD()], example=torch.zeros(1, 3, 8, 8))
    assert pair(batches.pictures(2, 8), batches.labels()).total.isfinite()
