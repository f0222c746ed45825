import time

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, resnet18
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from limbeck.report import measure_cost, measure_latencies


class Sleeper(nn.Module):
    def __init__(self, seconds: float, calls: list[str] | None = None) -> None:
        super().__init__()
        self.seconds, self.calls = seconds, calls if calls is not None else []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(f"{self.seconds}")
        time.sleep(self.seconds)
        return x


class ListDetector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transform = GeneralizedRCNNTransform(32, 32, [0.0] * 3, [1.0] * 3)
        self.seen: list[object] = []

    def forward(self, images: list[Tensor]) -> None:
        self.seen.append(images)


def test_a_convolution_costs_its_multiply_adds():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU())
    model[0].weight.requires_grad_(False)
    cost = measure_cost(model, (10, 12))
    assert cost.parameters == 8 * 3 * 9
    assert cost.gflops == pytest.approx(2 * 8 * 3 * 9 * 10 * 12 / 1e9)
    assert cost.latency_ms > 0


def test_resnet18_costs_what_torchvision_says():
    cost = measure_cost(resnet18(), (224, 224))
    meta = ResNet18_Weights.IMAGENET1K_V1.meta
    assert cost.parameters == meta["num_params"]
    assert cost.gflops == pytest.approx(2 * meta["_ops"], abs=1e-3)  # it counts a multiply-add once


def test_a_detector_is_measured_at_the_size_it_resizes_to():
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, returned_layers=[3, 4], extra_blocks=None
    )
    anchors = AnchorGenerator(((16,), (32,), (64,)), ((1.0,),) * 3)
    model = RetinaNet(backbone, 2, anchor_generator=anchors, min_size=64, max_size=64)
    small, large = measure_cost(model, (32, 32)), measure_cost(model, (96, 96))
    assert small.gflops == large.gflops > 0.1
    assert model.training


def test_detectors_get_a_list_of_one_image():
    model = ListDetector()
    measure_cost(model, (20, 30))
    (image,) = model.seen[0]
    assert image.shape == (3, 20, 30)


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure_cost(model, (8, 8))
    assert [module.training for module in model] == [True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_threads_and_mode_are_given_back_after_a_failure():
    model = nn.Linear(7, 7)  # cannot take an image of width 8
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError):
            measure_latencies({"broken": model}, (8, 8))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert model.training


def test_latencies_are_medians_of_each_model():
    latencies = measure_latencies({"slow": Sleeper(0.02), "fast": Sleeper(0.002)}, (8, 8))
    assert list(latencies) == ["slow", "fast"]
    assert 2 <= latencies["fast"] < 15 < 20 <= latencies["slow"]


def test_every_round_runs_every_model_in_another_order():
    calls: list[str] = []
    measure_latencies({str(i): Sleeper(i / 1e6, calls) for i in range(4)}, (8, 8))
    rounds = [tuple(calls[i : i + 4]) for i in range(0, len(calls), 4)]
    assert all(sorted(names) == sorted(rounds[0]) for names in rounds)
    assert len(set(rounds)) > len(rounds) / 2
