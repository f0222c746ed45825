"""The places of MGD: sizes that agree, and features and norms of the published networks."""

import numpy as np
import pytest
import timm
import torch
import torchvision
import yaml
from torch import nn

from limbeck import Tap, Taps, landmarks, norm_of
from limbeck.commands.recipes import folder
from limbeck.models import Classifier, RetinaNet

RECIPE = folder() / "mgd/cub200_mobilenet_v2.yaml"
MOVED = yaml.safe_load(RECIPE.read_text())["model"]["student"]["init_args"]["arguments"]
DISTILLED = {
    "ResNet-152": lambda: Classifier("torchvision:resnet152", 10),
    "ResNet-101": lambda: torchvision.models.resnet101(),
    "ResNet-34": lambda: Classifier("resnet34", 10),
    "ResNet-18 of timm": lambda: timm.create_model("resnet18"),
    "RetinaNet": lambda: RetinaNet("resnet18", 3),
    "MobileNetV1": lambda: Classifier("timm:mobilenetv1_100", 10),
    "MobileNetV2": lambda: torchvision.models.mobilenet_v2(),
    "MobileNetV2, its stride moved": lambda: Classifier("mobilenet_v2", 10, arguments=MOVED),
    "RetinaNet on MobileNetV2": lambda: RetinaNet("mobilenet_v2", 3),
    "ShuffleNetV2": lambda: Classifier("shufflenet_v2_x1_0", 10),
}


@pytest.mark.parametrize(
    ("name", "suffix", "channels"),
    [
        ("ResNet-152", "pre", [256, 512, 1024, 2048]),
        ("ResNet-101", "pre", [256, 512, 1024, 2048]),
        ("ResNet-34", "pre", [64, 128, 256, 512]),
        ("ResNet-18 of timm", "pre", [64, 128, 256, 512]),
        ("RetinaNet", "pre", [64, 128, 256, 512]),
        ("MobileNetV1", "pre", [128, 256, 512, 1024]),
        ("MobileNetV2", "depthwise", [96, 144, 384, 960]),
        ("MobileNetV2, its stride moved", "depthwise", [96, 192, 384, 960]),
        ("RetinaNet on MobileNetV2", "depthwise", [96, 144, 384, 960]),
        ("ShuffleNetV2", "pre", [None, 116, 232, 464]),
    ],
)
def test_student_and_teacher_have_maps_of_one_size_at_224_pixels(name, suffix, channels):
    """Any two of them are a pair. On the meta device: shapes without arithmetic."""
    with torch.device("meta"):
        model = DISTILLED[name]()
        wanted = [f"C{k}.{suffix}" for k, c in enumerate(channels, 2) if c]
        trunk = model.backbone.body if hasattr(model, "backbone") else model
        found = {k: landmarks(model)[k] for k in wanted}
        inside = {
            k: Tap(tap.path.removeprefix("backbone.body."), tap.side) for k, tap in found.items()
        }
        with Taps(trunk, inside) as seen:
            trunk(torch.rand(1, 3, 224, 224))
    for k, c in enumerate(channels, 2):
        if c:
            assert seen[f"C{k}.{suffix}"].shape == (1, c, 224 // 2**k, 224 // 2**k)
            half = name == "ShuffleNetV2"
            assert len(norm_of(model, f"C{k}.{suffix}").weight) == (c // 2 if half else c)


PUBLISHED = {
    "resnet50": ("torchvision:resnet50", {}, ["C2.pre", "C3.pre", "C4.pre", "C5.pre"]),
    "mobilenet_v1": (
        "timm:mobilenetv1_100",
        {"act_layer": "relu"},
        ["C2.pre", "C3.pre", "C4.pre", "C5.pre"],
    ),
    "mobilenet_v2": (
        "torchvision:mobilenet_v2",
        MOVED,
        [None, "C3.depthwise", "C4.depthwise", "C5.depthwise"],  # the first is ignored there
    ),
    "shufflenet_v2": ("torchvision:shufflenet_v2_x1_0", {}, ["C2", "C3.pre", "C4.pre", "C5"]),
}


def fill(network: nn.Module) -> int:
    """The golden weights: the n-th layer's are drawn from seed 10000 + n; how many layers."""
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    for number, layer in enumerate(layers):
        generator = torch.Generator().manual_seed(10_000 + number)
        state, shape = layer.state_dict(), layer.weight.shape
        if isinstance(layer, nn.BatchNorm2d):
            state["weight"] = 0.5 + torch.rand(shape, generator=generator)
            state["bias"] = 0.2 * torch.randn(shape, generator=generator)
            state["running_mean"] = 0.1 * torch.randn(shape, generator=generator)
            state["running_var"] = 0.5 + torch.rand(shape, generator=generator)
        else:
            gain = 2.0 if isinstance(layer, nn.Conv2d) else 1.0
            scale = (gain / shape[1:].numel()) ** 0.5
            state["weight"] = scale * torch.randn(shape, generator=generator)
            if layer.bias is not None:
                state["bias"] = 0.1 * torch.randn(layer.bias.shape, generator=generator)
        layer.load_state_dict(state)
    return len(layers)


@pytest.mark.parametrize("name", PUBLISHED)
def test_places_are_mgd_s(shared, name: str) -> None:
    golden = np.load(shared / "golden/mgd/arch_features.npz")
    network, arguments, places = PUBLISHED[name]
    model = Classifier(network, 1000, arguments=arguments, mean=(0, 0, 0), std=(1, 1, 1))
    assert fill(model.network) == golden[f"{name}.n_filled"]
    model.double().eval()
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(99)).double()
    with torch.no_grad(), Taps(model, [place for place in places if place]) as seen:
        logits = model(images)
    expected = golden[f"{name}.logits"]
    np.testing.assert_allclose(logits[0], expected, rtol=0, atol=1e-6 * abs(expected).max())
    for i, place in enumerate(places):
        if place is None:
            continue
        feature, sample = seen[place][0], golden[f"{name}.feat{i}.sample"]
        assert feature.shape == tuple(golden[f"{name}.feat{i}.shape"])
        channels, height, width = (
            max(1, n // k) for n, k in zip(feature.shape, (24, 4, 4), strict=True)
        )
        ours = feature[::channels, ::height, ::width]
        np.testing.assert_allclose(ours, sample, rtol=0, atol=1e-6 * abs(sample).max())
        if place != "C2":  # a pooling has no norm; the student's is not used
            weight = norm_of(model, place).weight.detach()
            assert len(weight) == golden[f"{name}.bn{i}.channels"]
            np.testing.assert_allclose(weight[:8], golden[f"{name}.bn{i}.weight_head"], rtol=1e-6)
