"""The table of trunks against torchvision's networks, on ``meta``."""

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter

from limbeck.trunks import TRUNKS, VGGS, Trunk, residual_blocks

EVERY = {**TRUNKS, **VGGS}
every_trunk = pytest.mark.parametrize("name", EVERY)


def classifier(name: str) -> nn.Module:
    with torch.device("meta"):
        return torchvision.models.get_model(name, weights=None).eval()


def shapes_of(trunk: Trunk, network: nn.Module) -> dict[str, torch.Size]:
    prefix = trunk.layout.prefix
    return {name.removeprefix(prefix): value.shape for name, value in network.state_dict().items()}


@every_trunk
def test_each_stage_gives_a_map_of_its_level_and_channels(name: str) -> None:
    layout = EVERY[name].layout
    network = classifier(name).get_submodule(layout.prefix.rstrip("."))
    places = {stage.modules[-1]: str(k) for k, stage in enumerate(layout.stages)}
    with torch.device("meta"):
        maps: dict[str, Tensor] = IntermediateLayerGetter(network, places)(
            torch.empty(1, 3, 64, 64)
        )
    for stage, found in zip(layout.stages, maps.values(), strict=True):
        side = 64 // 2**stage.level
        assert found.shape == (1, stage.channels, side, side)
        assert len(network.get_submodule(stage.output).weight) == stage.channels
    assert all(hasattr(network, module) for module in layout.stem)
    assert layout.top == layout.stages[-1].level


@every_trunk
def test_each_is_told_from_all_others(name: str) -> None:
    network = classifier(name)
    assert [n for n, trunk in EVERY.items() if trunk.recognises(shapes_of(trunk, network))] == [
        name
    ]


@pytest.mark.parametrize("name", [name for name in TRUNKS if name.startswith("resnet")])
def test_a_residual_network_is_known_without_its_last_stages(name: str) -> None:
    trunk = TRUNKS[name]
    shapes = shapes_of(trunk, classifier(name))
    there = {key: shape for key, shape in shapes.items() if not key.startswith("layer4.")}
    assert trunk.recognises(there)
    assert residual_blocks(there)[0][3] == 0


@pytest.mark.parametrize("name", ["squeezenet1_1", "vgg13", "vgg11_bn", "mobilenet_v3_small"])
def test_others_are_not_taken_for_any(name: str) -> None:
    network = classifier(name)
    assert not any(trunk.recognises(shapes_of(trunk, network)) for trunk in EVERY.values())


@pytest.mark.parametrize(("name", "config"), [("vgg11", "A"), ("vgg16", "D")])
def test_a_vgg_is_torchvisions(name: str, config: str) -> None:
    assert [*VGGS[name].config] == torchvision.models.vgg.cfgs[config]
