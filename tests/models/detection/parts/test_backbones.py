import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import detection
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d

from limbeck.models import BasicBlocks, RetinaNet, load_student, save_student
from limbeck.models.detection.parts.backbones import P6P7, Backbone, layout_of
from limbeck.models.norms import GroupNorm
from limbeck.presets import RETINANET
from tests.models.lively_weights import scramble

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


def norms_that_are(kind, body) -> dict[str, int]:
    """How many norms of that kind each block has."""
    found = [n.rpartition(".bn")[0] for n, m in body.named_modules() if isinstance(m, kind)]
    found = [name.removesuffix(".downsample.1") for name in found if name]
    return {name: found.count(name) for name in sorted(set(found))}


@pytest.mark.parametrize(("frozen_stages", "first"), [(0, 1), (1, 1), (2, 2), (3, 3)])
def test_last_norms_are_those_of_the_last_block_of_every_trained_stage(frozen_stages, first):
    body = Backbone(
        "resnet18", (3, 5), 16, None, norm="frozen", frozen_stages=frozen_stages, last_norm="group"
    ).body
    assert norms_that_are(nn.GroupNorm, body) == {f"layer{k}.1": 2 for k in range(first, 5)}
    trained = [n for n, p in body.named_parameters() if p.requires_grad and ".bn" in n]
    assert len(trained) == 4 * (5 - first)  # weight and bias of two norms in each


def test_last_norms_of_a_stage_of_one_block_include_the_shortcut() -> None:
    trunk = BasicBlocks((1, 1), (32, 64))
    body = Backbone(trunk, (2, 3), 16, None, norm="frozen", frozen_stages=1, last_norm="group").body
    assert isinstance(body["layer2"][0].downsample[1], nn.GroupNorm)
    assert isinstance(body["bn1"], FrozenBatchNorm2d)


def test_last_norms_take_over_the_weight_and_bias_of_the_loaded_network() -> None:
    """Other numbers, but nothing left at its initial value."""
    classifier = scramble(torchvision.models.resnet18())
    detector = RetinaNet("resnet18", 3, last_norm="group", frozen_stages=1, fpn_channels=8)
    part, tensors = detector.part_for(classifier.state_dict())
    part.load_state_dict(tensors)
    for k in (1, 2, 3, 4):
        ours, theirs = part[f"layer{k}"][1], classifier.get_submodule(f"layer{k}.1")
        for name in ("bn1", "bn2"):
            norm, loaded = ours.get_submodule(name), theirs.get_submodule(name)
            assert isinstance(norm, GroupNorm)
            assert norm.num_groups == 32
            assert torch.equal(norm.weight, loaded.weight)
            assert torch.equal(norm.bias, loaded.bias)
    assert detector.without_limbeck() is None


def test_a_detector_with_last_norms_is_kept_and_loaded(tmp_path) -> None:
    detector = RetinaNet("resnet18", 3, last_norm="group", frozen_stages=1, fpn_channels=8)
    save_student(detector, tmp_path)
    loaded = load_student(tmp_path)
    assert norms_that_are(GroupNorm, loaded.backbone.body) == {
        f"layer{k}.1": 2 for k in range(1, 5)
    }
    for name, tensor in detector.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_last_norms_need_residual_stages() -> None:
    with pytest.raises(ValueError, match="last_norm: this backbone has no residual stages"):
        RetinaNet("mobilenet_v2", 3, last_norm="group")


@pytest.mark.parametrize("frozen_stages", [-1, 5])
def test_more_frozen_stages_than_there_are_is_refused(frozen_stages: int) -> None:
    with pytest.raises(ValueError, match=r"expected 0 to 4, the stem and 3 stages"):
        backbone("resnet18", (3, 4), frozen_stages=frozen_stages)


def test_mobilenet_with_leaky_relus() -> None:
    leaky = Backbone(
        "mobilenet_v2", (2, 5), 16, None, norm="frozen", frozen_stages=0, activation="leaky_relu"
    ).eval()
    assert not any(isinstance(module, nn.ReLU6) for module in leaky.modules())
    slopes = {m.negative_slope for m in leaky.modules() if isinstance(m, nn.LeakyReLU)}
    assert slopes == {0.1}
    plain = backbone().eval()
    leaky.load_state_dict(plain.state_dict())  # names are the same
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        differ = leaky(images)["0"] - plain(images)["0"]
    assert differ.abs().max() > 0


@pytest.mark.parametrize(
    ("trunk", "activation", "message"),
    [
        ("resnet18", "leaky_relu", "'leaky_relu' for resnet18: expected"),
        ("mobilenet_v2", "swish", "'swish' for mobilenet_v2: expected leaky_relu"),
    ],
)
def test_activations_that_cannot_be_are_refused(trunk, activation, message) -> None:
    with pytest.raises(ValueError, match=message):
        RetinaNet(trunk, 3, activation=activation)


def test_a_student_with_leaky_relus_comes_back(tmp_path) -> None:
    small = {"fpn_channels": 8, "head_depth": 1}
    model = RetinaNet("mobilenet_v2", 3, activation="leaky_relu", **small)
    save_student(model, tmp_path)
    again = load_student(tmp_path)
    assert again.without_limbeck() is None
    for found in (again, RetinaNet("mobilenet_v2", 3, weights=str(tmp_path), **small)):
        assert any(isinstance(module, nn.LeakyReLU) for module in found.backbone.body.modules())


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
        for name in RETINANET
    }
    assert [b.p6.in_channels for b in blocks.values()] == [8, 512, 512]
