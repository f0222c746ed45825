import itertools
import typing

import pytest
import timm
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from limbeck.models import BasicBlockResNet
from limbeck.models.norms import AffineBatchNorm2d, GroupNorm, Norm, convert_norms, replace_norms

NORMS = typing.get_args(Norm)
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def network(norm: Norm) -> nn.Module:
    """A small network whose statistics and affine are not the identity."""
    torch.manual_seed(0)
    plain = BasicBlockResNet((1, 1), (8, 16), num_classes=3)
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return convert_norms(plain, norm)


def statistics(module: nn.Module) -> list[torch.Tensor]:
    return [buffer.clone() for name, buffer in module.named_buffers() if "running" in name]


@pytest.mark.parametrize("norm", NORMS)
def test_every_behaviour_is_the_same_function_in_evaluation(norm: Norm) -> None:
    expected = network("trained").eval()(IMAGES)
    torch.testing.assert_close(network(norm).eval()(IMAGES), expected)


@pytest.mark.parametrize(
    ("norm", "statistics_move", "affine_trains"),
    [("frozen", False, False), ("affine", False, True), ("trained", True, True)],
)
def test_what_a_training_step_changes(norm: Norm, statistics_move, affine_trains) -> None:
    model = network(norm).train()
    before = statistics(model)
    model(IMAGES).sum().backward()
    moved = [not torch.equal(a, b) for a, b in zip(before, statistics(model), strict=True)]
    assert moved == [statistics_move] * len(before)
    assert ("bn1.weight" in dict(model.named_parameters())) == affine_trains
    if affine_trains:
        assert model.bn1.weight.grad.abs().sum() > 0
        assert model.bn1.bias.grad.abs().sum() > 0


def test_affine_gradients_are_those_of_batch_norm_in_evaluation_mode() -> None:
    affine, reference = network("affine").train(), network("trained").eval()
    for model in (affine, reference):
        model(IMAGES).square().sum().backward()
    torch.testing.assert_close(affine.bn1.weight.grad, reference.bn1.weight.grad)
    torch.testing.assert_close(affine.conv1.weight.grad, reference.conv1.weight.grad)


def test_affine_survives_a_conversion_to_synchronised() -> None:
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(network("affine"))
    assert isinstance(converted.bn1, AffineBatchNorm2d)


@pytest.mark.parametrize(("source", "target"), list(itertools.product(NORMS, NORMS)))
def test_state_dicts_load_strictly_between_all(source: Norm, target: Norm) -> None:
    torch.manual_seed(2)
    fresh = convert_norms(BasicBlockResNet((1, 1), (8, 16), num_classes=3), target)
    fresh.load_state_dict(network(source).state_dict())
    torch.testing.assert_close(fresh.eval()(IMAGES), network(source).eval()(IMAGES))


def test_types() -> None:
    assert isinstance(network("synchronised").bn1, nn.SyncBatchNorm)
    assert isinstance(network("frozen").layer2[0].downsample[1], FrozenBatchNorm2d)


def test_timms_fused_norms_keep_their_activation_or_are_refused() -> None:
    fused = timm.create_model("test_efficientnet", num_classes=3).eval()
    expected = fused(IMAGES)
    frozen = convert_norms(fused, "frozen").train()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())
    torch.testing.assert_close(frozen.eval()(IMAGES), expected)
    with pytest.raises(ValueError, match=r"timm's BatchNormAct2d. Use norm='frozen'"):
        convert_norms(timm.create_model("test_efficientnet"), "affine")


@pytest.mark.parametrize("norm", NORMS)
def test_any_of_them_is_replaced_and_its_weight_and_bias_kept(norm: Norm) -> None:
    model = convert_norms(BasicBlockResNet((1,), (32,)), norm)
    nn.init.uniform_(model.bn1.weight)
    weight = model.bn1.weight.clone()
    for replaced in (replace_norms(model, "synchronised"), replace_norms(model, "group")):
        assert torch.equal(replaced.bn1.weight, weight)
        assert replaced.bn1.weight.requires_grad
    assert isinstance(model.bn1, GroupNorm)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())


def test_synchronised_norms_keep_their_statistics() -> None:
    model = network("frozen")
    before = statistics(model)
    replaced = replace_norms(model, "synchronised")
    assert isinstance(replaced.bn1, nn.SyncBatchNorm)
    for old, new in zip(before, statistics(replaced), strict=True):
        assert torch.equal(old, new)


def test_group_norm_is_torchs() -> None:
    x = torch.rand(2, 64, 5, 5)
    replaced = replace_norms(nn.Sequential(nn.BatchNorm2d(64, eps=1e-3)), "group")
    torch.testing.assert_close(replaced(x), nn.functional.group_norm(x, 32, eps=1e-3))


def test_channels_that_are_no_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="48 channels are no multiple of a group norm's 32 groups"):
        replace_norms(nn.BatchNorm2d(48), "group")
    with pytest.raises(ValueError, match="norm='batch': expected one of group, synchronised"):
        replace_norms(nn.BatchNorm2d(32), "batch")  # type: ignore[arg-type]


def test_an_unknown_behaviour_is_refused() -> None:
    with pytest.raises(ValueError, match="norm='frozn': expected one of frozen, affine"):
        convert_norms(nn.BatchNorm2d(2), "frozn")  # type: ignore[arg-type]
