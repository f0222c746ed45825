import pytest
import torch
from torch import nn
from torchvision.models import detection
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d

from limbeck.models import BasicBlocks, RetinaNet
from limbeck.models.detection.backbones import P6P7, Backbone, layout_of
from limbeck.models.detection.presets import PRESETS

TRUNKS = {
    "resnet18": [64, 128, 256, 512],
    "resnet34": [64, 128, 256, 512],
    "resnet50": [256, 512, 1024, 2048],
    "mobilenet_v2": [24, 32, 96, 1280],
    BasicBlocks((1, 2, 1, 1), (4, 8, 12, 16)): [4, 8, 12, 16],
}


def backbone(trunk="mobilenet_v2", levels=(2, 5), norm="frozen", frozen_stages=0) -> Backbone:
    return Backbone(trunk, levels, 16, None, norm=norm, frozen_stages=frozen_stages)


@pytest.mark.parametrize(("trunk", "channels"), TRUNKS.items())
def test_c_levels_have_their_strides_and_channels(trunk, channels: list[int]) -> None:
    model = backbone(trunk).eval()
    assert isinstance(model, detection.backbone_utils.BackboneWithFPN)
    assert isinstance(model.body, IntermediateLayerGetter)
    with torch.no_grad():
        levels = model.body(torch.rand(1, 3, 64, 96))
        pyramid = model(torch.rand(1, 3, 64, 96))
    expected = [(c, 64 // s, 96 // s) for c, s in zip(channels, (4, 8, 16, 32), strict=True)]
    assert [tuple(level.shape[1:]) for level in levels.values()] == expected
    assert [tuple(p.shape[1:]) for p in pyramid.values()] == [(16, *e[1:]) for e in expected]


def test_mobilenets_levels_are_the_last_block_of_each_stride() -> None:
    assert backbone().body.return_layers == {"3": "0", "6": "1", "13": "2", "18": "3"}


@pytest.mark.parametrize(("stem_stride", "levels"), [(1, (0, 2)), (2, (1, 3)), (4, (2, 4))])
def test_levels_of_basic_blocks_follow_the_stem(stem_stride, levels) -> None:
    trunk = BasicBlocks((1, 1, 1), (4, 4, 4), stem_stride)
    assert [stage.level for stage in layout_of(trunk).stages] == list(
        range(levels[0], levels[1] + 1)
    )
    pyramid = backbone(trunk, levels)(torch.rand(1, 3, 32, 32))
    assert [p.shape[-1] for p in pyramid.values()] == [32 // 2**k for k in range(*levels)] + [
        32 // 2 ** levels[1]
    ]


def test_what_lies_above_the_pyramid_is_not_there() -> None:
    assert "layer4" not in backbone("resnet18", (3, 4)).body
    assert "14" not in backbone("mobilenet_v2", (3, 4)).body


@pytest.mark.parametrize(
    ("trunk", "frozen_stages", "first_trained"),
    [
        ("resnet18", 0, "conv1.weight"),
        ("resnet18", 1, "layer1.0.conv1.weight"),
        ("resnet18", 2, "layer2.0.conv1.weight"),
        ("resnet18", 4, "layer4.0.conv1.weight"),
        ("resnet18", 5, None),
        ("mobilenet_v2", 1, "2.conv.0.0.weight"),
        ("mobilenet_v2", 2, "4.conv.0.0.weight"),
        (BasicBlocks((1, 1, 1, 1), (4, 4, 8, 8)), 2, "layer2.0.conv1.weight"),
    ],
)
def test_frozen_stages_are_not_trained(trunk, frozen_stages: int, first_trained) -> None:
    body = backbone(trunk, norm="trained", frozen_stages=frozen_stages).body
    names = [name for name, parameter in body.named_parameters() if parameter.requires_grad]
    assert (names[0] if names else None) == first_trained


@pytest.mark.parametrize("norm", ["trained", "affine"])
def test_norms_of_frozen_stages_do_not_move_in_training(norm) -> None:
    body = backbone("resnet18", norm=norm, frozen_stages=2).body.train()
    before = {name: tensor.clone() for name, tensor in body.state_dict().items()}
    optimizer = torch.optim.SGD(body.parameters(), lr=0.1)
    sum(level.square().mean() for level in body(torch.rand(2, 3, 64, 64)).values()).backward()
    optimizer.step()
    moved = {n.split(".")[0] for n, t in body.state_dict().items() if not torch.equal(t, before[n])}
    assert moved == {"layer2", "layer3", "layer4"}
    assert isinstance(body["bn1"], FrozenBatchNorm2d)
    assert isinstance(body["layer2"][0].bn1, nn.BatchNorm2d) == (norm == "trained")


@pytest.mark.parametrize("frozen_stages", [-1, 5])
def test_more_frozen_stages_than_there_are_is_refused(frozen_stages: int) -> None:
    with pytest.raises(ValueError, match=r"expected 0 to 4, the stem and 3 stages"):
        backbone("resnet18", (3, 4), frozen_stages=frozen_stages)


def test_an_unknown_trunk_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'vgg16': no such backbone. Expected one of resnet18"):
        layout_of("vgg16")


def test_extra_levels_say_what_they_are_made_of() -> None:
    c5, p5 = torch.rand(1, 8, 8, 8), torch.rand(1, 8, 8, 8)
    for from_p5, relu in ((True, True), (False, True), (False, False)):
        block = P6P7(8, 8, from_p5=from_p5, relu=relu)
        (_, p6, p7), names = block([p5], [c5], ["0"])
        assert names == ["0", "p6", "p7"]
        assert torch.equal(p6, block.p6(p5 if from_p5 else c5))
        assert torch.equal(p7, block.p7(p6.relu() if relu else p6))
    blocks = {
        name: RetinaNet("resnet18", 3, preset=name, fpn_channels=8).backbone.fpn.extra_blocks
        for name in PRESETS
    }
    assert [b.p6.in_channels for b in blocks.values()] == [8, 512, 512]
