import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from limbeck.models.detection.parts.backbones import P6P7
from limbeck.models.detection.parts.simple_pyramid import SimplePyramid


def normalised(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    """A layer normalisation over the channels, as ViTDet's code writes it out."""
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    found = (x - mean) / torch.sqrt(variance + 1e-6)
    return weights[f"{name}.weight"][:, None, None] * found + weights[f"{name}.bias"][:, None, None]


def plain_loop(x: Tensor, weights: dict[str, Tensor]) -> list[Tensor]:
    """Strides 4, 8, 16 and 32 from one of 16, section 3 of the paper."""

    def doubled(y: Tensor, name: str) -> Tensor:
        return F.conv_transpose2d(y, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2)

    fine = F.gelu(normalised(doubled(x, "scales.0.0"), weights, "scales.0.1"))
    scaled = [doubled(fine, "scales.0.3"), doubled(x, "scales.1.0"), x, F.max_pool2d(x, 2)]
    maps = []
    for level, each in enumerate(scaled):
        name = f"layer_blocks.{level}"
        y = normalised(F.conv2d(each, weights[f"{name}.0.weight"]), weights, f"{name}.1")
        y = F.conv2d(y, weights[f"{name}.2.weight"], padding=1)
        maps.append(normalised(y, weights, f"{name}.3"))
    return maps


def pyramid(extra=None, levels=(2, 3, 4, 5), only: int = 4) -> SimplePyramid:
    torch.manual_seed(0)
    made = SimplePyramid(only, levels, 16, 8, extra)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def test_maps_are_those_of_the_plain_loop() -> None:
    model, x = pyramid(), torch.rand(2, 16, 4, 6)
    with torch.no_grad():
        found = model({"0": x})
        expected = plain_loop(x, model.state_dict())
    assert list(found) == ["0", "1", "2", "3"]
    assert [tuple(each.shape[-2:]) for each in found.values()] == [
        (16, 24),
        (8, 12),
        (4, 6),
        (2, 3),
    ]
    for ours, theirs in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("only", [3, 5])
def test_maps_of_patches_of_8_and_of_32_pixels_have_the_same_strides(only: int) -> None:
    with torch.no_grad():
        found = pyramid(only=only, levels=(3, 4, 5))(
            {"0": torch.rand(1, 16, 64 >> only, 96 >> only)}
        )
    assert [tuple(each.shape[-2:]) for each in found.values()] == [(8, 12), (4, 6), (2, 3)]


def test_more_levels_follow_from_the_last() -> None:
    x = torch.rand(1, 16, 4, 6)
    with torch.no_grad():
        found = pyramid(LastLevelMaxPool())({"0": x})
        assert torch.equal(found["pool"], F.max_pool2d(found["3"], 1, 2))
        model = pyramid(P6P7(16, 8, from_p5=False, relu=True))
        found = model({"0": x})
        assert torch.equal(found["p6"], model.extra_blocks.p6(F.max_pool2d(x, 2)))
    assert list(found)[-2:] == ["p6", "p7"]
