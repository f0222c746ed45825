import pytest
import torch
from torchvision.ops import box_iou, generalized_box_iou

from limbeck.models.detection.parts.overlaps import giou, iou


def boxes_apart_and_over_each_other():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(6, 2, generator=generator) * 20
    sides = torch.rand(6, 2, generator=generator) * 20 + 1
    return torch.cat([corners, corners + sides], dim=1)


@pytest.mark.parametrize(("ours", "theirs"), [(iou, box_iou), (giou, generalized_box_iou)])
def test_overlaps_are_torchvisions_pair_by_pair(ours, theirs) -> None:
    boxes = boxes_apart_and_over_each_other()
    expected = theirs(boxes, boxes)
    assert (expected <= 0).any()
    torch.testing.assert_close(ours(boxes[:, None], boxes), expected)
    torch.testing.assert_close(ours(boxes, boxes.flip(0)), expected.flip(1).diagonal())


def test_a_box_without_an_area_has_finite_gradients() -> None:
    empty = torch.tensor([[30.0, 30.0, 30.0, 30.0]], requires_grad=True)
    giou(empty, torch.tensor([[0.0, 0.0, 10.0, 10.0]])).sum().backward()
    assert empty.grad.isfinite().all()
    assert empty.grad.any()
