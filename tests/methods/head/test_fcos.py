"""The FCOS assist of TF-HEAD."""

import pytest
import torch
from torchvision.models.detection._utils import BoxLinearCoder

from limbeck.methods.head.fcos import FCOSAssist, Towers

PYRAMID = [torch.rand(1, 32, 16 // 2**i, 24 // 2**i) for i in range(3)]
TARGETS = [{"boxes": torch.tensor([[20.0, 12.0, 68.0, 60.0]]), "labels": torch.tensor([2])}]


@pytest.fixture
def assist() -> FCOSAssist:
    return FCOSAssist((3, 5), 32, 4)


def test_outputs_are_the_heads(assist: FCOSAssist) -> None:
    tower, outputs = assist(PYRAMID)
    expected = assist.head(PYRAMID)
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(outputs[name], value)
    for ours, level in zip(tower, PYRAMID, strict=True):
        torch.testing.assert_close(ours, assist.head.classification_head.conv(level))


def test_points_are_the_centres_of_cells(assist: FCOSAssist) -> None:
    for points, level, stride in zip(assist._points(PYRAMID), PYRAMID, (8, 16, 32), strict=True):
        height, width = level.shape[2:]
        assert len(points) == height * width
        centres = (points[:, :2] + points[:, 2:]) / 2
        assert centres[width + 2].tolist() == [2.5 * stride, 1.5 * stride]
        assert (points[:, 2:] - points[:, :2] == stride).all()


def test_boxes_that_are_right_cost_nothing(assist: FCOSAssist) -> None:
    _, outputs = assist(PYRAMID)
    points = torch.cat(assist._points(PYRAMID))
    truth = TARGETS[0]["boxes"].expand(len(points), 4)
    outputs["bbox_regression"] = BoxLinearCoder().encode(points, truth)[None]
    losses = assist.losses(outputs, PYRAMID, TARGETS)
    assert losses["fcos.bbox_regression"].item() == pytest.approx(0, abs=1e-6)
    assert losses["fcos.classification"] > 0
    assert losses["fcos.bbox_ctrness"] > 0


def test_towers_that_are_equal_cost_nothing_and_teach_in_one_direction() -> None:
    towers = Towers(32, 32)
    torch.nn.init.dirac_(towers.adapter.weight)
    torch.nn.init.zeros_(towers.adapter.bias)
    assert towers(PYRAMID, PYRAMID) == 0
    assist = [level.clone().requires_grad_() for level in PYRAMID]
    loss = towers([level + 2 for level in PYRAMID], assist)
    assert loss.item() == pytest.approx(3 * 2**2, rel=1e-5)  # the levels' means are summed
    loss.backward()
    assert all(level.grad is None for level in assist)
