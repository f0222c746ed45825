"""What an SSD's backbone and weights decide."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import WeightsEnum, vgg16
from torchvision.models.vgg import cfgs, make_layers

from limbeck.models import SSD

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CAFFE = ([0.48235, 0.45882, 0.40784], [1 / 255] * 3)
HALF = ([0.5] * 3, [0.5] * 3)


def given(backbone: str, **arguments) -> dict:
    with torch.device("meta"):
        return SSD(backbone, 3, **arguments).build.init_args


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [("vgg16", CAFFE), ("mobilenet_v3_large", HALF), ("torchvision:resnet18", IMAGENET)],
)
def test_input_is_the_backbones(backbone: str, expected: tuple) -> None:
    found = given(backbone)
    assert (found["mean"], found["std"]) == expected
    assert given(backbone, std=(1.0, 1.0, 1.0))["std"] == [1.0, 1.0, 1.0]


def test_steps_are_those_of_ssd300_at_300_pixels_alone() -> None:
    assert given("vgg16")["steps"] == [8, 16, 32, 64, 100, 300]
    assert given("vgg16", image_size=(512, 512))["steps"] is None


def test_scales_of_a_light_backbone_are_evenly_spaced() -> None:
    found = given("resnet18", levels=(3, 6))
    assert found["scales"] == [0.15, 0.4, 0.65, 0.9, 1.0]
    assert found["aspect_ratios"] == [[2, 3]] * 4
    assert given("resnet18", levels=(4, 4))["scales"] == [0.15, 0.9]


@pytest.mark.parametrize(
    ("weights", "member", "expected"),
    [
        ("torchvision:backbone", "VGG16_Weights.IMAGENET1K_FEATURES", CAFFE),
        ("torchvision:IMAGENET1K_V1", "VGG16_Weights.IMAGENET1K_V1", IMAGENET),
    ],
)
def test_input_follows_the_weights_of_vgg16(weights, member, expected, monkeypatch) -> None:
    asked = []

    def get_state_dict(self: WeightsEnum, **_: bool) -> dict[str, Tensor]:
        asked.append(str(self))
        return vgg16().state_dict()

    monkeypatch.setattr(WeightsEnum, "get_state_dict", get_state_dict)
    found = given("vgg16", weights=weights)
    assert asked == [member]
    assert (found["mean"], found["std"]) == expected


def test_the_tail_is_whole_under_weights_of_imagenet(monkeypatch) -> None:
    with torch.device("meta"):
        whole = SSD("mobilenet_v3_large", 3, reduced_tail=False).state_dict()
        reduced = SSD("mobilenet_v3_large", 3).state_dict()
    published = {"COCO_V1": reduced, "IMAGENET1K_V2": whole}
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, **_: published[self.name])
    assert given("mobilenet_v3_large", weights="torchvision:COCO_V1")["reduced_tail"]
    assert not given("mobilenet_v3_large", weights="torchvision:IMAGENET1K_V2")["reduced_tail"]


def test_a_file_of_vgg16_has_to_be_told_its_input(tmp_path: Path) -> None:
    layers = make_layers(cfgs["D"])
    tensors = {f"features.{name}": value for name, value in layers.state_dict().items()}
    torch.save(tensors, tmp_path / "vgg16.pth")
    with pytest.raises(
        ValueError, match=r"vgg16\.pth.*does not say how its images were normalised"
    ):
        given("vgg16", weights=tmp_path / "vgg16.pth", mean=IMAGENET[0])
    arguments = {"mean": IMAGENET[0], "std": IMAGENET[1]}
    model = SSD("vgg16", 3, weights=tmp_path / "vgg16.pth", **arguments)
    assert torch.equal(model.backbone.features[0].weight, layers[0].weight)
