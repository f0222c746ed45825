"""Changes of rows, channels and classes."""

import pytest
import torch
import torch.nn.functional as F

from limbeck.checkpoints.tensors import (
    BACKGROUND_BOXES,
    BACKGROUND_FIRST,
    BGR,
    COCO_IDS,
    SAME,
    Transform,
    check_box_rows,
    scaled_input,
    size_major,
    slots,
    with_counters,
    without_counters,
)
from tests.models.detection.published import FROM_SIZE_MAJOR


def rows(count: int, dimensions: int) -> torch.Tensor:
    """Row r has the value r, so that an order can be read off."""
    return (
        torch.arange(float(count))
        .view(-1, *(1,) * (dimensions - 1))
        .expand(count, *(2, 3, 3)[: dimensions - 1])
    )


def order(value: torch.Tensor) -> list[float]:
    return value.flatten(1)[:, 0].tolist() if value.dim() > 1 else value.tolist()


def test_coco_has_80_classes_among_91() -> None:
    never_used = {0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert sorted({*COCO_IDS, *never_used}) == list(range(91))
    assert len(COCO_IDS) == 80


@pytest.mark.parametrize("dimensions", [1, 2])
def test_background(dimensions: int) -> None:
    classes, boxes = rows(4, dimensions), rows(8, dimensions)
    assert order(BACKGROUND_FIRST.to_ours(classes)) == [3, 0, 1, 2]
    assert order(BACKGROUND_BOXES.to_ours(boxes)) == [0, 0, 0, 0, *range(8)]


@pytest.mark.parametrize("dimensions", [1, 4])
def test_anchors_by_ratio_first(dimensions: int) -> None:
    per_anchor = 2
    expected = [per_anchor * a + k for a in FROM_SIZE_MAJOR for k in range(per_anchor)]
    assert order(size_major(3, 3).to_ours(rows(18, dimensions))) == expected
    two_sizes = [0, 3, 1, 4, 2, 5]
    assert order(size_major(2, 3).to_ours(rows(6, dimensions))) == two_sizes


@pytest.mark.parametrize("dimensions", [1, 4])
def test_classes_that_are_never_used(dimensions: int) -> None:
    transform = slots(2, 4, (1, 3))
    assert order(transform.to_ours(rows(8, dimensions))) == [1, 3, 5, 7]
    none = -100.0 if dimensions == 1 else 0.0
    full = [none, 0, none, 1, none, 2, none, 3]
    assert order(transform.to_theirs(rows(4, dimensions))) == full


def test_boxes_of_classes_that_are_never_used_are_zero() -> None:
    boxes = slots(1, 3, (0, 2), bias=0.0)
    assert order(boxes.to_ours(rows(12, 1))) == [0, 1, 2, 3, 8, 9, 10, 11]
    assert order(boxes.to_theirs(rows(8, 1))) == [0, 1, 2, 3, 0, 0, 0, 0, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("transform", "count"),
    [
        (SAME, 5),
        (BACKGROUND_FIRST, 81),
        (BACKGROUND_BOXES, 8),
        (size_major(3, 3), 720),
        (size_major(1, 3), 12),
        (size_major(2, 5), 40),
    ],
)
def test_every_bit_comes_back(transform: Transform, count: int) -> None:
    for value in (torch.randn(count), torch.randn(count, 3), torch.randn(count, 2, 3, 3)):
        assert torch.equal(transform.to_theirs(transform.to_ours(value)), value)
        assert torch.equal(BGR.to_theirs(BGR.to_ours(value)), value)


def test_slots_come_back_from_theirs() -> None:
    transform = slots(9, 91, COCO_IDS)
    for value in (torch.randn(720), torch.randn(720, 2, 3, 3)):
        assert torch.equal(transform.to_ours(transform.to_theirs(value)), value)


def test_a_convolution_of_bgr_images() -> None:
    images, weight, bias = torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3), torch.randn(4)
    on_rgb = F.conv2d(images, BGR.to_ours(weight), BGR.to_ours(bias))
    torch.testing.assert_close(on_rgb, F.conv2d(images.flip(1), weight, bias))


def test_a_convolution_of_another_scale() -> None:
    images, weight = torch.rand(1, 3, 8, 8), torch.randn(4, 3, 3, 3)
    one, other = (1 / 255, 1 / 255, 1 / 255), (0.229, 0.224, 0.225)
    first, second = (images / torch.tensor(std).view(3, 1, 1) for std in (one, other))
    scaled = F.conv2d(second, scaled_input(weight, one, other))
    torch.testing.assert_close(scaled, F.conv2d(first, weight), rtol=1e-4, atol=1e-2)


def test_counters() -> None:
    norm = {"bn.running_var": torch.ones(2), "fc.weight": torch.ones(2, 2)}
    full = with_counters(norm)
    assert list(full) == ["bn.running_var", "bn.num_batches_tracked", "fc.weight"]
    assert full["bn.num_batches_tracked"].dtype == torch.int64
    assert without_counters(full).keys() == norm.keys()
    counted = {"bn.num_batches_tracked": torch.tensor(7), **norm}
    assert with_counters(counted)["bn.num_batches_tracked"] == 7


@pytest.mark.parametrize("boxes", [4 + 4, 4 + 4 * 81])
def test_box_rows_that_do_not_fit_the_classes(boxes: int) -> None:
    head = "roi_heads.box_predictor"
    tensors = {f"{head}.cls_score.weight": torch.zeros(81, 2)}
    check_box_rows(tensors | {f"{head}.bbox_pred.weight": torch.zeros(324, 2)}, "detectron2")
    tensors |= {f"{head}.bbox_pred.weight": torch.zeros(boxes, 2)}
    with pytest.raises(ValueError, match=rf"{boxes - 4} rows of boxes for 81 .* expected 320"):
        check_box_rows(tensors, "detectron2")
