"""Fine-grained imitation against the authors' code: masks, loss and gradients."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.frame import Frame
from limbeck.methods import FineGrainedImitation, Side, Step
from limbeck.methods.fgfi import imitation_masks

MASKS = ["one", "three", "eight", "twenty", "tiny", "onepixel", "huge", "border", "none"]


def golden(shared: Path, name: str) -> dict[str, Any]:
    return dict(np.load(shared / "golden/fgfi" / name))


def exclusive(boxes: Any) -> Tensor:
    """The original's boxes count their last pixel in; ours do not."""
    return torch.as_tensor(boxes)[..., :4].float() + torch.tensor([0.0, 0.0, 1.0, 1.0])


def anchors_of(case: dict[str, Any], base: str = "base_anchors") -> Tensor:
    rows, columns = case["feat_hw"]
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    shifts = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4) * int(case["stride"])
    return (exclusive(case[base]) + shifts).reshape(-1, 4)


def boxes_of(rows: Any) -> Tensor:
    """Rows of zeros are padding."""
    return exclusive(rows[np.abs(rows).sum(axis=1) > 0])


@pytest.mark.parametrize("name", [*MASKS, "duplicate"])
def test_masks_are_the_authors(shared: Path, name: str) -> None:
    case = golden(shared, "frcnn_mask.npz")
    (mask,) = imitation_masks(
        [anchors_of(case)], [tuple(case["feat_hw"])], boxes_of(case[f"{name}.gt"])
    )
    assert np.array_equal(mask, case[f"{name}.mask"])
    assert mask.any() == (name != "none")


@pytest.mark.parametrize("factor", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_masks_of_other_factors(shared: Path, factor: float) -> None:
    case = golden(shared, "frcnn_mask.npz")
    grid = tuple(case["feat_hw"])
    (mask,) = imitation_masks([anchors_of(case)], [grid], boxes_of(case["eight.gt"]), factor)
    assert np.array_equal(mask, case[f"eight.mask_factor_{factor}"])


def test_masks_of_a_batch(shared: Path) -> None:
    case = golden(shared, "frcnn_mask.npz")
    anchors, grid = anchors_of(case), tuple(case["feat_hw"])
    for rows, expected in zip(case["batch2.gt"], case["batch2.mask"], strict=True):
        (mask,) = imitation_masks([anchors], [grid], boxes_of(rows))
        assert np.array_equal(mask, expected)


def test_a_box_after_an_empty_row_counts_here(shared: Path) -> None:
    """The original stops at the first row of zeros: what comes after it is forgotten there."""
    case = golden(shared, "frcnn_mask.npz")
    rows, grid = case["stops_at_zero_row.gt"], tuple(case["feat_hw"])
    (all_boxes,) = imitation_masks([anchors_of(case)], [grid], boxes_of(rows))
    (first,) = imitation_masks([anchors_of(case)], [grid], boxes_of(rows[:1]))
    assert np.array_equal(first, case["stops_at_zero_row.mask"])
    assert all_boxes.sum() > first.sum()


def test_the_mask_of_the_rpn_targets(shared: Path) -> None:
    case = golden(shared, "frcnn_rpn_targets.npz") | {"stride": 16}
    case["base"] = golden(shared, "frcnn_anchors.npz")["base_8_16_32"]
    grid = tuple(case["feat_hw"])
    (mask,) = imitation_masks([anchors_of(case, "base")], [grid], boxes_of(case["gt"]))
    assert np.array_equal(mask, case["mask"])


def shufflenet_anchors(case: dict[str, Any]) -> Tensor:
    """Centres and sides to corners; this original leaves the last pixel out of its IoU."""
    x, y = torch.as_tensor(case["center_x"]), torch.as_tensor(case["center_y"])
    centres = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).reshape(-1, 1, 2)
    half = torch.as_tensor(case["anchor_shapes_wh"]) / 2
    return torch.cat([centres - half, centres + half], dim=-1).reshape(-1, 4).float()


@pytest.mark.parametrize("name", ["one", "three", "eight", "tiny", "huge", "duplicate", "corner"])
def test_masks_of_shuffledet(shared: Path, name: str) -> None:
    case = golden(shared, "shuffledet_targets.npz")
    centre, sides = torch.as_tensor(case[f"{name}.gt_cxcywh_scaled"]).float().split(2, dim=1)
    boxes = torch.cat([centre - sides / 2, centre + sides / 2], dim=1)
    (mask,) = imitation_masks([shufflenet_anchors(case)], [tuple(case["grid_hw"])], boxes)
    assert np.array_equal(mask, case[f"{name}.mask"])


def step_of(student: Tensor, teacher: Tensor) -> Step:
    """A step whose maps are these."""
    own = {"all maps": [student], "maps": [student], "all anchors": [], "input frame": None}
    frame = Frame((0, 0), (), None)
    return Step(
        images=torch.zeros(len(student)),
        targets=[],
        student=Side(nn.Identity(), own | {"input frame": frame}),
        teacher=Side(nn.Identity(), {"maps": [teacher]}),
        number=0,
        world_size=1,
    )


def imitation(case: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, list[Any]]:
    """The weighted loss of golden features, and gradients of student, weight and bias."""
    method = FineGrainedImitation(weight=float(case.ilw))
    step = step_of(case.student.requires_grad_(), case.teacher)
    method.setup(step)
    convolution = method.adapters["maps_0"][0]
    with torch.no_grad():
        convolution.weight.copy_(case.adapt_weight)
        convolution.bias.copy_(case.adapt_bias)
    monkeypatch.setattr(method, "masks", lambda step: {"maps.0": case.mask_count > 0})
    loss = method(step)["imitation"] * method.weights_at(0)["imitation"]
    wanted = (step.student.features["all maps"][0], convolution.weight, convolution.bias)
    return loss.detach(), list(torch.autograd.grad(loss, wanted))


def loss_case(shared: Path, name: str) -> SimpleNamespace:
    whole = golden(shared, "frcnn_imitation_loss.npz")
    own = {k.partition(".")[2]: v for k, v in whole.items() if k.startswith(f"{name}.")}
    return SimpleNamespace(**{k: torch.as_tensor(v) for k, v in own.items()})


@pytest.mark.parametrize("name", ["b1", "b2"])
def test_loss_and_gradients_are_the_authors(
    shared: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = loss_case(shared, name)
    loss, gradients = imitation(case, monkeypatch)
    torch.testing.assert_close(loss, case.loss.float().reshape(()), rtol=1e-4, atol=0)
    expected = (case.grad_student, case.grad_weight, case.grad_bias)
    for found, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7)


def test_no_object_gives_zero_where_the_original_gives_nan(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = loss_case(shared, "empty")
    assert case.loss.isnan().all()
    loss, gradients = imitation(case, monkeypatch)
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients)
