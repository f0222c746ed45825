"""Trunks under an SSD: weights of classifiers, frozen parts, and single cells."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import vgg
from torchvision.ops import FrozenBatchNorm2d

from limbeck.models import SSD, BasicBlocks
from limbeck.models.detection.ssd.backbones import VGG16, LightBackbone, MapNorm, MobileNetV3

TINY = BasicBlocks((1, 1, 1), (4, 8, 8))


def test_vgg16_takes_a_classifiers_weights() -> None:
    features = vgg.make_layers(vgg.cfgs["D"])
    with torch.device("meta"):
        backbone = VGG16((300, 300), frozen_stages=0)
    tensors = {f"features.{name}": value for name, value in features.state_dict().items()}
    tensors["classifier.0.weight"] = torch.zeros(1)
    backbone.trunk.load_state_dict(backbone.of_classifier(tensors), assign=True)
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        conv5 = backbone.extra[0][:-1](backbone.features(image))
        torch.testing.assert_close(conv5, features[:-1](image))


@pytest.mark.parametrize("reduced", [False, True])
def test_mobilenet_v3_takes_a_classifiers_weights(reduced: bool) -> None:
    classifier = torchvision.models.mobilenet_v3_large(reduced_tail=reduced)
    backbone = MobileNetV3(reduced_tail=reduced, norm="trained", frozen_stages=0).eval()
    backbone.trunk.load_state_dict(backbone.of_classifier(classifier.state_dict()))
    eps = {m.eps for m in backbone.features.modules() if isinstance(m, nn.BatchNorm2d)}
    assert eps == {0.001}
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            backbone.features(image), classifier.eval().features(image), rtol=1e-4, atol=1e-4
        )


def test_a_light_trunk_takes_a_classifiers_weights_less_its_upper_stages() -> None:
    classifier = torchvision.models.resnet18(num_classes=3)
    backbone = LightBackbone("resnet18", (2, 3), (64, 64))
    backbone.trunk.load_state_dict(backbone.of_classifier(classifier.state_dict()))
    assert torch.equal(backbone.body.layer2[1].conv2.weight, classifier.layer2[1].conv2.weight)
    assert "layer3" not in backbone.body


def trained(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def test_frozen_stages_of_vgg16_are_torchvisions() -> None:
    stock = torchvision.models.detection.ssd._vgg_extractor
    with torch.device("meta"):
        for count in range(6):
            expected = stock(torchvision.models.vgg16(), False, 5 - count)
            assert trained(VGG16((300, 300), count)) == trained(expected)
        with pytest.raises(ValueError, match="frozen_stages=6: expected 0 to 5"):
            VGG16((300, 300), 6)


def test_frozen_stages_of_mobilenet_v3_have_frozen_norms() -> None:
    with torch.device("meta"):
        backbone = MobileNetV3(reduced_tail=True, norm="trained", frozen_stages=2)
    assert trained(backbone.features[0][:4]) == set()  # stem and C2
    assert trained(backbone.features[0][4]) != set()
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d)]
    assert {type(m) for m in norms} == {nn.BatchNorm2d, FrozenBatchNorm2d, MapNorm}


def test_norm_is_of_the_trunk() -> None:
    backbone = LightBackbone(TINY, (3, 6), (64, 64), norm="frozen", lite=True)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.body.modules())
    assert any(isinstance(m, MapNorm) for m in backbone.extra.modules())


def test_a_single_cell_of_a_single_image_is_normalised_as_in_evaluation() -> None:
    norm = MapNorm(3)
    norm.running_mean.fill_(2.0)
    one, two = torch.rand(1, 3, 1, 1), torch.rand(2, 3, 1, 1)
    torch.testing.assert_close(norm.train()(one), norm.eval()(one))
    assert torch.equal(norm.running_mean, torch.full((3,), 2.0))
    torch.testing.assert_close(norm.train()(two).mean(dim=0), torch.zeros(3, 1, 1))
    assert (norm.running_mean < 2).all()


def test_vgg16_refuses_images_that_leave_no_cell() -> None:
    with torch.device("meta"):
        backbone = VGG16((268, 270), 0)
        grids = [tuple(m.shape[-2:]) for m in backbone(torch.zeros(1, 3, 268, 270)).values()]
    assert grids == [(34, 34), (17, 17), (9, 9), (5, 5), (3, 3), (1, 1)]
    with pytest.raises(ValueError, match=r"image_size=\(267, 300\).*sides of 268 pixels or more"):
        VGG16((267, 300), 0)


def test_torchvisions_backbones_have_levels_and_heads_of_their_own() -> None:
    with pytest.raises(ValueError, match=r"vgg16 has levels=\(3, 8\), lite=False"):
        SSD("vgg16", 3, lite=True)
    with pytest.raises(ValueError, match=r"mobilenet_v3_large has levels=\(4, 9\), lite=True"):
        SSD("mobilenet_v3_large", 3, levels=(4, 8))
