import torch
from torchvision.ops import box_iou

from limbeck.models.detection.parts.overlaps import iou


def test_iou_is_torchvisions_pair_by_pair() -> None:
    corners = torch.rand(6, 2) * 20
    boxes = torch.cat([corners, corners + torch.rand(6, 2) * 20 + 1], dim=1)
    expected = box_iou(boxes, boxes)
    assert (expected == 0).any()
    torch.testing.assert_close(iou(boxes[:, None], boxes), expected)
    torch.testing.assert_close(iou(boxes, boxes.flip(0)), expected.flip(1).diagonal())
