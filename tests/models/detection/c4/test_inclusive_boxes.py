"""The arithmetic of boxes whose last pixel counts."""

import torch

from limbeck.models.detection.c4.inclusive_boxes import (
    InclusiveBoxCoder,
    OverlappingMatcher,
    clip,
    exclusive,
    inclusive,
    iou,
)


def test_no_clipped_box_is_empty() -> None:
    boxes = torch.tensor([[-9.0, -9, -5, -5], [200, 3, 300, 9], [-3, 5, 50, 60]])
    assert clip(boxes, (40, 100)).tolist() == [[0, 0, 1, 1], [99, 3, 100, 9], [0, 5, 50, 40]]


def test_an_inclusive_box_is_as_wide_as_its_pixels() -> None:
    box = torch.tensor([[3.0, 4.0, 7.0, 9.0]])  # the pixels 3 to 7 and 4 to 9
    assert (exclusive(box)[:, 2:] - box[:, :2]).tolist() == [[5, 6]]
    assert torch.equal(inclusive(exclusive(box)), box)


def test_a_decoded_box_is_a_pixel_larger_than_its_deltas_say() -> None:
    coder = InclusiveBoxCoder((10.0, 10.0, 5.0, 5.0))
    anchors = torch.tensor([[0.0, 0.0, 16.0, 16.0], [8.0, 8.0, 24.0, 40.0]])
    objects = torch.tensor([[2.0, 1.0, 12.0, 20.0], [4.0, 6.0, 30.0, 36.0]])
    deltas = coder.encode_single(objects, anchors)
    torch.testing.assert_close(coder.decode_single(deltas, anchors), exclusive(objects))
    several = coder.decode_single(deltas.repeat(1, 3), anchors)
    torch.testing.assert_close(several, exclusive(objects).repeat(1, 3))


def test_a_box_grows_without_bound() -> None:
    """torchvision stops at 1000 / 16 times the size."""
    coder = InclusiveBoxCoder((1.0, 1.0, 1.0, 1.0))
    deltas = torch.tensor([[0.0, 0.0, 8.0, 0.0]])
    (box,) = coder.decode_single(deltas, torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    torch.testing.assert_close(box[2] - box[0] - 1, torch.tensor(8.0).exp())


def test_single_pixels_overlap_nothing() -> None:
    pixel, box = [5.0, 5.0, 6.0, 6.0], [4.0, 4.0, 8.0, 8.0]
    both = torch.tensor([pixel, box])
    assert iou(both, both).tolist() == [[-1, 0], [-1, 1]]


def test_the_best_anchor_of_a_box_has_to_overlap_it() -> None:
    matcher = OverlappingMatcher(0.7, 0.3)
    overlaps = torch.tensor([[0.2, 0.4, 0.4, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert matcher(overlaps).tolist() == [-1, 0, 0, -1]
