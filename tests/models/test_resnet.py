import pytest
import torch
import torchvision
from torch import nn

from limbeck.models import BasicBlockResNet, BasicBlocks, Classifier


def test_is_torchvisions_resnet18_with_a_small_stem() -> None:
    reference = torchvision.models.resnet18(num_classes=7)
    reference.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
    network = BasicBlockResNet((2, 2, 2, 2), (64, 128, 256, 512), num_classes=7)
    network.load_state_dict(reference.state_dict())
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(network.eval()(images), reference.eval()(images), rtol=0, atol=0)


@pytest.mark.parametrize("stem_stride", [1, 2, 4])
def test_each_stage_halves_what_the_stem_gives(stem_stride: int) -> None:
    network = BasicBlockResNet([1, 2, 1], [4, 6, 8], 5, stem_stride)
    sides = []
    for name in ("layer1", "layer2", "layer3"):
        network.get_submodule(name).register_forward_hook(
            lambda module, args, out: sides.append(tuple(out.shape[1:]))
        )
    network(torch.rand(2, 3, 64, 64))
    side = 64 // stem_stride
    assert sides == [(4, side, side), (6, side // 2, side // 2), (8, side // 4, side // 4)]


def test_parameter_count_of_the_clothing_student() -> None:
    network = BasicBlockResNet((1, 1, 1, 1), (16, 32, 64, 128), num_classes=10)
    assert sum(p.numel() for p in network.parameters()) == 308_826


def test_convolutions_are_initialised_as_he_et_al() -> None:
    weight = BasicBlockResNet((1, 1), (64, 128)).layer2[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)


def test_a_shape_compares_by_value_whatever_sequence_it_was_given() -> None:
    shape = BasicBlocks([1, 2], [8, 16])  # type: ignore[arg-type]
    assert {shape: "found"}[BasicBlocks((1, 2), (8, 16))] == "found"


@pytest.mark.parametrize(
    ("depths", "widths", "stride", "message"),
    [
        ((1, 1), (8,), 4, "as many depths as widths"),
        ((), (), 4, "Give one of each"),
        ((1, 0), (8, 16), 4, r"depths=\[1, 0\]"),
        ((1, 10**6), (8, 8), 4, "at most 1000 blocks a stage"),
        ((1, 1), (8, 10**8), 4, r"at most 5e\+08 weights"),
        ((1, 1), (8, 16), 3, "stem_stride=3: expected 1, 2 or 4"),
    ],
)
def test_impossible_shapes_are_refused(depths, widths, stride, message) -> None:
    with pytest.raises(ValueError, match=message):
        BasicBlockResNet(depths, widths, stem_stride=stride)


def test_padded_shortcuts_have_no_parameters_and_pass_the_input_on() -> None:
    network = BasicBlockResNet((1, 1), (4, 7), 5, 1, "padded")
    shortcut = network.layer2[0].downsample
    assert not list(shortcut.parameters())
    maps = torch.rand(2, 4, 7, 8)
    padded = shortcut(maps)
    assert padded.shape == (2, 7, 4, 4)
    assert torch.equal(padded[:, 1:5], maps[:, :, ::2, ::2])
    assert padded[:, [0, 5, 6]].eq(0).all()


def test_the_resnet20_of_the_paper() -> None:
    """He et al., table 6: 0.27 M parameters."""
    network = BasicBlockResNet((3, 3, 3), (16, 32, 64), 10, 1, "padded")
    assert sum(p.numel() for p in network.parameters()) == 269_722


def test_impossible_shortcuts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"widths=\[16, 8\] with padded shortcuts"):
        BasicBlocks((1, 1), (16, 8), 1, "padded")
    with pytest.raises(ValueError, match="shortcuts='none': expected 'projected' or 'padded'"):
        BasicBlocks((1, 1), (8, 16), 1, "none")  # type: ignore[arg-type]


def test_a_head_that_is_called_linear_is_the_head(tmp_path) -> None:
    network = BasicBlockResNet((1, 1), (4, 8), 3, 1, "padded")
    state = {name.replace("fc.", "linear."): value for name, value in network.state_dict().items()}
    torch.save(state, tmp_path / "published.pth")
    shape = BasicBlocks((1, 1), (4, 8), 1, "padded")
    model = Classifier(shape, num_classes=3, weights=tmp_path / "published.pth")
    assert torch.equal(model.network.fc.weight, network.fc.weight)
