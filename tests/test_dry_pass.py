import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer
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
    with pytest.raises(ValueError, match=r"method 'hint'.*C4.*\(1, 64, 8, 8\).*\(1, 128, 16, 16\)"):
        Distillation(small_models.resnet(), small_models.resnet(Bottleneck), methods)


class Fixed(nn.Module):
    """Takes 8 px only."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3 * 8 * 8, small_models.CLASSES)

    def forward(self, x):
        return self.linear(x.flatten(1))


def test_models_that_refuse_the_tiny_batch_take_an_example():
    with pytest.raises(
        ValueError, match=r"images of \(3, 128, 128\).*RuntimeError.*model.example.*Distillation an"
    ):
        Distillation(Fixed(), Fixed(), [KD()])
    for example in (torch.zeros(1, 3, 8, 8), (8, 8)):
        pair = Distillation(Fixed(), Fixed(), [KD()], example=example)
        assert pair(batches.pictures(2, 8), batches.labels()).total.isfinite()
    with pytest.raises(ValueError, match=r"example is \(0, 8\); expected a height and a width"):
        Distillation(Fixed(), Fixed(), [KD()], example=(0, 8))


def test_a_model_in_another_precision_is_named():
    student, teacher = small_models.resnet(), small_models.resnet().bfloat16()
    with pytest.raises(
        ValueError,
        match=r"NarrowResNet\) has parameters of bfloat16, and the images are float32",
    ):
        Distillation(student, teacher, [KD()])
    with torch.autocast("cpu", torch.bfloat16):
        Distillation(student, teacher, [KD()])


def vit(size: int) -> nn.Module:
    return VisionTransformer(size, 16, 1, 1, 8, 8, num_classes=small_models.CLASSES)


def test_the_dry_pass_asks_models_for_their_size():
    for pair in (
        Distillation(small_models.resnet(), vit(64), [KD()]),
        Distillation(vit(64), small_models.resnet(), [KD()]),
    ):
        assert pair(batches.pictures(2, 64), batches.labels()).total.isfinite()
    with pytest.raises(
        ValueError, match=r"The student \(Vis.*made for 64 x 64.*The teacher.*made for 32 x 32"
    ):
        Distillation(vit(64), vit(32), [KD()])


def test_images_of_another_size_than_a_model_is_made_for():
    pair = Distillation(small_models.resnet(), vit(64), [KD()])
    with pytest.raises(
        ValueError, match=r"the teacher \(VisionTransformer\) is made for images of 64 x 64 px .*32"
    ):
        pair.check(batches.pictures(2, 32), batches.labels())
