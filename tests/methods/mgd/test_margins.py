import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torchvision.models.resnet import Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from limbeck import Distillation
from limbeck.methods import MGD
from limbeck.methods.mgd.margins import margin_of
from tests import batches, small_models
from tests.methods.mgd.steps import PLACES, STANDARD, batch_norm, calibrated_pair


def test_margin_is_the_mean_of_the_negative_part():
    gamma, beta = torch.tensor([1.0, -0.5, 2.0, 1.0]), torch.tensor([0.0, 0.3, -4.0, 3.0])
    mean, scale = beta.numpy(), gamma.abs().numpy()
    expected = torch.tensor(stats.truncnorm.mean(-np.inf, -mean / scale, mean, scale)).float()
    torch.testing.assert_close(margin_of(batch_norm(gamma, beta)), expected)


def test_margin_of_a_constant_channel_is_the_limit():
    beta = torch.tensor([-2.0, 0.0, 2.0])
    assert margin_of(batch_norm(torch.zeros(3), beta)).tolist() == [-2.0, 0.0, 0.0]
    narrow = margin_of(batch_norm(torch.full((3,), 1e-7), beta))
    torch.testing.assert_close(narrow, torch.tensor([-2.0, 0.0, 0.0]), rtol=0, atol=1e-6)


def test_norms_of_any_kind():
    gamma, beta = torch.rand(32) + 0.5, torch.randn(32)
    expected = margin_of(batch_norm(gamma, beta))
    for norm in (FrozenBatchNorm2d(32), nn.SyncBatchNorm(32), nn.GroupNorm(4, 32)):
        norm.load_state_dict({"weight": gamma, "bias": beta}, strict=False)
        assert torch.equal(margin_of(norm), expected)
    for norm in (None, nn.BatchNorm2d(32, affine=False)):
        assert margin_of(norm).item() == pytest.approx(STANDARD)


@pytest.mark.slow
def test_margins_are_of_the_teacher_as_it_is_when_calibrated():
    pair = calibrated_pair([MGD(PLACES)])
    stage, norm = pair.methods["MGD"].stages["C5_pre"], pair.teacher.layer4[-1].bn3
    assert torch.equal(stage.margin, margin_of(norm))
    nn.init.normal_(norm.weight)
    pair.observe(batches.pictures(), None)
    pair.solve()
    assert torch.equal(stage.margin, margin_of(norm))


def test_places_without_a_norm_have_the_standard_margin():
    student, teacher = small_models.retinanet(), small_models.retinanet(Bottleneck, channels=64)
    pair = Distillation(student, teacher, [MGD(["C5.pre", "P3"])])
    stages = pair.methods["MGD"].stages
    nn.init.normal_(teacher.backbone.body.layer4[-1].bn3.weight)
    pair.observe(*batches.detection_batch())
    assert stages["P3"].margin.tolist() == pytest.approx([STANDARD] * 64)
    assert torch.equal(stages["C5_pre"].margin, margin_of(teacher.backbone.body.layer4[-1].bn3))
